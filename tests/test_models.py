"""Embedding networks: shapes, unit length, normalisation inside, weights from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from siamese.config import RunError
from siamese.models import EmbeddingNet, conv_small, from_torchvision, resnet9

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]


def scratch_vgg11(mean: list[float], std: list[float], embedding_dim: int = 128) -> EmbeddingNet:
    return from_torchvision(mean, std, embedding_dim, architecture="vgg11")


@pytest.mark.parametrize("make", [scratch_vgg11, conv_small, resnet9])
@pytest.mark.parametrize("size", [32, 64])
def test_uint8_images_become_unit_vectors(make: Callable[..., EmbeddingNet], size: int) -> None:
    net = make(MEAN, STD, embedding_dim=24).eval()
    z = net(torch.randint(0, 256, (5, 3, size, size), dtype=torch.uint8))
    assert z.shape == (5, 24)
    assert z.dtype == torch.float32
    assert torch.allclose(z.norm(dim=1), torch.ones(5), atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(torch.zeros(2, 3, size, size, dtype=torch.uint8)).dtype == torch.float32


def test_vgg11_is_the_articles() -> None:
    """torchvision's features, flattened, a linear layer to 128, L2: written out on one image."""
    torch.manual_seed(0)
    net = scratch_vgg11(MEAN, STD).eval()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    x = torchvision.transforms.functional.normalize(image.float() / 255, MEAN, STD)
    features = net.backbone(x).flatten(1)
    assert features.shape == (1, 512)
    expected = torch.nn.functional.normalize(net.projection(features), p=2, dim=1)
    assert torch.allclose(net(image), expected, atol=1e-6)


def test_weights_come_from_a_local_file(tmp_path: Path) -> None:
    official = torchvision.models.vgg11()
    torch.save(official.state_dict(), tmp_path / "vgg11.pth")
    net = from_torchvision(MEAN, STD, architecture="vgg11", weights=str(tmp_path / "vgg11.pth"))
    for name, value in official.features.state_dict().items():
        assert torch.equal(net.backbone.state_dict()[name], value)


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    torch.save(torchvision.models.alexnet().state_dict(), tmp_path / "alexnet.pth")
    with pytest.raises(RunError, match="not the weights of torchvision's vgg11; it lacks features"):
        from_torchvision(MEAN, STD, architecture="vgg11", weights=str(tmp_path / "alexnet.pth"))
    torch.save(conv_small(MEAN, STD, width=4).backbone.state_dict(), tmp_path / "small.pth")
    with pytest.raises(RunError, match=r"model.width=8; it has other shapes"):
        conv_small(MEAN, STD, width=8, weights=str(tmp_path / "small.pth"))
