"""Weights to start from: what of a file is loaded, what is left at random, what is not used, and what is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from siamese.errors import ConfigError, RunError
from siamese.models import EmbeddingNet, conv_small, from_torchvision
from siamese.models.weights import weights_file

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def checkpoint(path: Path, net: EmbeddingNet, **more: Tensor) -> str:
    """A checkpoint of a run whose network is ``net``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state | more}, path)
    return str(path)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "siamese.models.weights")
    return caplog


def line(said: pytest.LogCaptureFixture) -> str:
    assert len(said.messages) == 1
    return said.messages[0].partition(": ")[2]


def test_a_checkpoint_is_the_whole_network(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    net = conv_small(MEAN, STD, 7, width=4)
    path = checkpoint(tmp_path / "best.ckpt", net, **{"objective.base.proxies": torch.zeros(3, 7)})
    again = conv_small([0.1] * 3, [0.9] * 3, 7, width=4, weights=path)
    for name, value in net.state_dict().items():  # the mean and std of pixels too
        assert torch.equal(value, again.state_dict()[name]), name
    assert line(said) == (
        "loaded the backbone (29 tensors), the projection, the mean and std of pixels (in the place of those of data); "
        "left at random: nothing; in the file and not used: 1 entry (objective.base.proxies)"
    )
    assert again.weights is not None
    assert again.weights["file"] == path
    other = conv_small(MEAN, STD, 7, width=4, weights=checkpoint(tmp_path / "other.ckpt", net))
    assert other.weights is not None
    assert other.weights["fingerprint"] != again.weights["fingerprint"]


def test_the_backbone_alone_leaves_the_projection_at_random(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    net = conv_small(MEAN, STD, 7, width=4)
    path = checkpoint(tmp_path / "best.ckpt", net)
    again = conv_small(MEAN, STD, 7, width=4, weights=path, weights_part="backbone")
    assert torch.equal(again.backbone[3][0].weight, net.backbone[3][0].weight)
    assert not torch.equal(again.projection.weight, net.projection.weight)
    assert "left at random: the projection (model.weights_part=backbone)" in line(said)
    assert line(said).endswith("in the file and not used: 2 entries (projection.bias, projection.weight)")


def test_a_projection_of_another_shape_is_left_at_random(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    path = checkpoint(tmp_path / "best.ckpt", conv_small(MEAN, STD, 7, width=4))
    assert conv_small(MEAN, STD, 5, width=4, weights=path).projection.weight.shape == (5, 16)
    assert "left at random: the projection (expected [5, 16], the file has [7, 16])" in line(said)
    said.clear()
    conv_small(MEAN, STD, None, width=4, weights=path)  # has none
    assert "left at random: nothing; in the file and not used: 2 entries (projection.bias" in line(said)
    said.clear()
    path = checkpoint(tmp_path / "none.ckpt", conv_small(MEAN, STD, None, width=4))
    conv_small(MEAN, STD, 5, width=4, weights=path)
    assert "left at random: the projection (the file has none)" in line(said)


@pytest.mark.parametrize(
    ("architecture", "unused"),
    [("resnet18", "2 entries (fc.bias, fc.weight)"), ("mobilenet_v3_small", "4 entries (classifier.")],
)
def test_the_classifier_of_a_published_network_is_not_used(
    architecture: str, unused: str, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.get_model(architecture).state_dict(), path)
    from_torchvision(MEAN, STD, architecture=architecture, weights=str(path))
    assert f"the projection (the file has none); in the file and not used: {unused}" in line(said)
    assert "mean and std" not in line(said)


def test_a_deeper_network_is_another(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for deeper, ours, more in (
        ("resnet34", "resnet18", "layer1.2."),
        ("efficientnet_b1", "efficientnet_b0", "also has features"),
    ):
        state = torchvision.models.get_model(deeper).state_dict()
        torch.save({name: value for name, value in state.items() if not name.startswith("classifier.")}, path)
        with pytest.raises(RunError, match=f"not the weights of torchvision's {ours}; it .*{more}"):
            from_torchvision(MEAN, STD, architecture=ours, weights=str(path))


def test_a_run_stands_for_its_best_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run; expected a run directory, a checkpoint or a state dict"):
        weights_file(str(tmp_path))
    folder = tmp_path / "run" / "checkpoints"
    checkpoint(folder / "last.ckpt", conv_small(MEAN, STD, 7, width=4))
    with pytest.raises(RunError, match=r"no checkpoints/best.ckpt there; expected one of last.ckpt"):
        weights_file(str(tmp_path / "run"))
    checkpoint(folder / "best.ckpt", conv_small(MEAN, STD, 7, width=4))
    (tmp_path / "run" / "manifest.json").write_text("{}")
    with pytest.raises(RunError, match=r"holds 1 run; expected one of them: .*/run$"):
        weights_file(str(tmp_path))
    assert weights_file(str(tmp_path / "run")) == folder / "best.ckpt"
    assert weights_file(str(folder / "last.ckpt")) == folder / "last.ckpt"
    with pytest.raises(RunError, match=r"ruin: no such file or run; did you mean 'run'"):
        weights_file(str(tmp_path / "ruin"))


def test_a_part_of_no_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.weights_part=backbone: expected all, or model.weights=RUN"):
        conv_small(MEAN, STD, width=4, weights_part="backbone")


NET = conv_small(MEAN, STD, 3, width=1)
NAMES = st.sampled_from(sorted(NET.state_dict()))


@given(dropped=st.sets(NAMES, max_size=3), reshaped=st.sets(NAMES, max_size=2), ours=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_fits_is_loaded_and_a_backbone_that_is_not_whole_is_refused(
    dropped: set[str], reshaped: set[str], ours: bool, tmp_path: Path
) -> None:
    state = {name: value for name, value in NET.state_dict().items() if name not in dropped}
    state |= {name: torch.zeros(9, 9) for name in reshaped - dropped}
    prefix = "net." if ours else ""
    torch.save({prefix + name: value for name, value in state.items()}, tmp_path / "w.pt")
    lost = {n for n in dropped if n.startswith("backbone.") and not n.endswith("num_batches_tracked")}
    odd = {n for n in reshaped - dropped if n.startswith("backbone.")}

    def load() -> EmbeddingNet:
        return conv_small([0.1] * 3, [0.9] * 3, 3, width=1, weights=str(tmp_path / "w.pt"))

    if lost or odd:
        with pytest.raises(RunError, match="it lacks" if lost else "it has other shapes for") as raised:
            load()
        assert all(name.removeprefix("backbone.") in str(raised.value) for name in lost or odd)
        return
    found = load().state_dict()
    whole = not (dropped | reshaped) & {"projection.weight", "projection.bias"}
    for name, value in NET.state_dict().items():
        if name.startswith("backbone.") and name not in dropped:
            assert torch.equal(found[name], value), name
        elif name in ("mean", "std"):
            assert torch.equal(found[name], value) is not bool({"mean", "std"} & (dropped | reshaped)), name
        elif name.startswith("projection."):
            assert torch.equal(found[name], value) is whole, name
