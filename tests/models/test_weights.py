"""Weights to start from: what of a file is loaded, what is left at random, what is not used, and what is said."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import torchvision
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
    ("architecture", "unused"), [("resnet18", "2 entries (fc.bias, fc.weight)"), ("alexnet", "6 entries (classifier.")]
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
    for deeper, ours, more in (("resnet34", "resnet18", "layer1.2."), ("vgg11_bn", "vgg11", "features")):
        torch.save(torchvision.models.get_model(deeper).state_dict(), path)
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
    assert weights_file(str(tmp_path / "run")) == folder / "best.ckpt"
    assert weights_file(str(folder / "last.ckpt")) == folder / "last.ckpt"
    with pytest.raises(RunError, match=r"ruin: no such file or run; did you mean 'run'"):
        weights_file(str(tmp_path / "ruin"))


def test_a_part_of_no_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.weights_part=backbone: expected all, or model.weights=RUN"):
        conv_small(MEAN, STD, width=4, weights_part="backbone")
