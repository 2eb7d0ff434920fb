"""What there is to know of every option of conf/loss, and a table of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from pytorch_metric_learning.losses import generic_pair_loss, mixins
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import nn

from siamese.config.schema import OWN_KEYS
from siamese.config.targets import find_target, parameters, targets
from siamese.config.validate import validate
from siamese.data.batches import Balanced, HardNegatives, Kind, Magnet, Pairs, Triplets, Views
from siamese.losses import traits
from siamese.losses.make import Mined, make_loss
from siamese.paths import CONF

CLASSES, DIMENSIONS = 10, 128  # of the losses made here, to see what they hold
KINDS: dict[str, Kind] = {
    kind.form: kind for kind in (Balanced(), HardNegatives(), Magnet(), Pairs(), Triplets(), Views())
}
AUTHORS = r"(?:[A-Z][\w'’–-]*|van|den|der|and|et al\.|,|\s)+"
SOURCE = re.compile(
    AUTHORS + r"(?:19|20)\d\d(?: \([^)]+\)|, [A-Z][\w\s-]+)?"
    r"(?:, (?:equation|section|page)s? [\d.]*\d(?:(?:, | and | to )\d+)*)?"
)
BASES = {
    "Losses of pairs (the abstract base)": generic_pair_loss.GenericPairLoss,
    "Losses with class weights and a regulariser of them (the mixin)": mixins.WeightRegularizerMixin,
}


def describe(name: str) -> dict[str, Any]:
    """What there is to know of the option ``name`` of conf/loss."""
    config = validate(compose("train", ["name=table", f"loss={name}"]))
    node, asked = config.loss, config.objective
    path = node["_target_"]
    target = find_target("loss", path)
    loss = make_loss(node, CLASSES, DIMENSIONS)
    said = traits(loss)
    batches = node.get("batches")
    kinds = [kind for form, kind in KINDS.items() if batches is None or form in batches]
    own = OWN_KEYS["loss"]
    comment = " ".join(_comment(CONF / "loss" / f"{name}.yaml").split())
    says = " ".join((inspect.getdoc(target) or "").split())
    held = {key: list(p.shape) for key, p in loss.named_parameters()}
    inner = [node for key, node in targets("loss", node) if key != "loss"]
    return {
        "name": name,
        "class": path,
        "says": re.split(r"(?<=\.) (?=[A-Z])", SOURCE.split(comment)[0].strip())[0],
        "source": _source(comment) or _source(says) or path.partition(".")[0],
        "batches": batches,
        "uses": "the drawn tuples"
        if said.uses_tuples
        else "labels" + (", and its queue" if said.remembers else " alone"),
        "classes": any(_needs_classes(find_target("loss", n["_target_"])) for n in [node, *inner]),
        "parameters": held,
        "depends_on_batch": [
            kind.form for kind in kinds if asked.koleo_weight or said.depends(drawn=not kind.tuples_span_batch)
        ],
        "koleo_weight": asked.koleo_weight,
        "options": {k: v for k, v in node.items() if k != "_target_" and k not in own},
        "bases": [where for where, base in BASES.items() if isinstance(_bare(loss), base)],
    }


def _needs_classes(target: Callable[..., Any]) -> bool:
    taken = parameters(target).get("num_classes")
    return taken is not None and taken.default is taken.empty


def _bare(loss: nn.Module) -> nn.Module:
    return loss.loss if isinstance(loss, Mined) else loss


def _comment(file: Path) -> str:
    """The comment that a YAML file begins with."""
    lines = []
    for line in file.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return " ".join(lines)


def _source(text: str) -> str | None:
    found = SOURCE.search(text)
    return found[0].strip(" ,") if found else None


def table(rows: list[dict[str, Any]]) -> Table:
    found = Table(title="conf/loss", show_lines=True)
    for column in ("loss", "what it is", "needs", "options"):
        found.add_column(column, overflow="fold")
    for row in rows:
        needs = [f"batches: {', '.join(row['batches'] or ['any'])}", f"uses: {row['uses']}"]
        needs += ["the number of classes"] * row["classes"]
        needs += [f"own parameters: {key.removeprefix('loss.')} {shape}" for key, shape in row["parameters"].items()]
        depends = row["depends_on_batch"]
        needs += [f"depends on the batch with {', '.join(depends)}"] * bool(depends)
        options = [f"{key}={_shown(value)}" for key, value in row["options"].items()]
        options += [f"koleo_weight={row['koleo_weight']}"] * bool(row["koleo_weight"])
        found.add_row(
            f"[bold]{row['name']}[/]\n{row['class'].rpartition('.')[2]}",
            escape(f"{row['says']}\n{row['source'] or ''}".strip()),
            escape("\n".join(needs)),
            escape("\n".join(options)),
        )
    return found


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "_target_" in value:
        return str(value["_target_"]).rpartition(".")[2]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) + "}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def describe_all(names: Sequence[str]) -> list[dict[str, Any]]:
    """:func:`describe` each of ``names``, options of conf/loss."""
    torch.manual_seed(0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return [describe(name) for name in names]


def homes() -> dict[str, str]:
    """What several losses of the library have in common, and the dotted path of it."""
    return {where: f"{base.__module__}.{base.__qualname__}" for where, base in BASES.items()}


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table of ``rows``, and what all of them share."""
    console = Console()
    console.print(table(rows))
    console.print(
        "Every loss also has koleo_weight, koleo_over, koleo_neighbours, miner and lr (of its own parameters)."
    )
    for where, home in homes().items():
        users = ", ".join(row["name"] for row in rows if where in row["bases"])
        console.print(f"{where}: {home}; here: {users or 'none'}", highlight=False)
