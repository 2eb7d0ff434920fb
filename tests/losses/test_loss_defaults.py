"""What a loss of ours is without arguments, in conf/loss and in Python, is one and the same."""

from __future__ import annotations

import inspect

import pytest
import torch
import yaml
from support.processes import ROOT

from siamese.config.targets import find_target
from siamese.losses import KoLeo, koleo

NODES = {file.stem: yaml.safe_load(file.read_text()) for file in (ROOT / "conf/loss").glob("*.yaml")}
OURS = [
    name
    for name, node in NODES.items()
    if node.get("_target_", "").startswith("siamese.losses.") and "library" not in node["_target_"]
]


@pytest.mark.parametrize("name", sorted(OURS))
def test_an_option_of_conf_writes_out_the_defaults(name: str) -> None:
    node = NODES["triplet"] | NODES[name] if "defaults" in NODES[name] else NODES[name]
    takes = inspect.signature(find_target("loss", node["_target_"])).parameters
    written = {key: value for key, value in node.items() if key in takes}
    optional = {key: of.default for key, of in takes.items() if of.default is not of.empty}  # others are supplied
    assert written == optional


@pytest.mark.parametrize("over", ["anchors", "per_role"])
def test_koleo_of_roles_looks_at_as_many_neighbours_as_it_is_told(over: str) -> None:
    z = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tuples = tuple(torch.arange(12).view(3, 4))
    roles = tuples[:1] if over == "anchors" else tuples
    expected = sum(koleo(z[index], 2) for index in roles) / len(roles)
    assert KoLeo(over, 2)(z, torch.zeros(12), tuples).item() == pytest.approx(expected.item())
    with pytest.raises(ValueError, match=rf"^KoLeo over {over} needs tuples"):
        KoLeo(over)(z, torch.zeros(12), None)
