"""The whitening filters against the covariance of patches, the identity starts, and what a checkpoint has of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import Cli
from torch import nn

from siamese.errors import ConfigError
from siamese.models import Whitening, conv_whitened
from siamese.models.whitened import REGULARISER
from siamese.runs.checkpoint import read_checkpoint

MEAN, STD = [0.5] * 3, [0.25] * 3


def smooth(n: int, size: int, seed: int = 0) -> torch.Tensor:
    """Normalised images whose neighbouring pixels are alike."""
    coarse = torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def test_whitened_patches_are_uncorrelated_and_of_one_variance() -> None:
    images, layer = smooth(60, 12), Whitening()
    layer.fit(images)
    with torch.no_grad():
        out = layer(images).double()
    half = out.shape[1] // 2
    assert out.shape == (60, 24, 11, 11)
    assert torch.allclose(out[:, :half], -out[:, half:], atol=1e-5)
    rows = out[:, :half].transpose(0, 1).flatten(1).numpy()
    patches = np.lib.stride_tricks.sliding_window_view(images.double().numpy(), (2, 2), axis=(2, 3))
    flat = patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances = np.linalg.eigvalsh(flat.T @ flat / len(flat))[::-1]
    assert np.allclose(rows @ rows.T / rows.shape[1], np.diag(variances / (variances + REGULARISER)), atol=1e-3)


def test_the_filters_are_computed_once_and_by_no_gradient() -> None:
    net = conv_whitened(MEAN, STD, 5, widths=[4])
    layer = net.backbone[0]  # type: ignore[index]
    assert isinstance(layer, Whitening)
    layer.fit(smooth(20, 8))
    before = layer.weight.clone()
    layer.fit(smooth(20, 8, seed=1))
    assert torch.equal(layer.weight, before)
    assert not layer.weight.requires_grad
    assert layer.bias is not None
    assert layer.bias.requires_grad
    other = Whitening()
    other.load_state_dict(layer.state_dict())
    other.fit(smooth(20, 8, seed=1))
    assert torch.equal(other.weight, before)


def test_an_eigenvector_has_one_sign() -> None:
    layer = Whitening()
    layer.fit(smooth(20, 8))
    rows = layer.weight.flatten(1)[:12]
    assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()


def test_convolutions_start_as_the_identity_of_what_comes_in() -> None:
    net = conv_whitened(MEAN, STD, 5, widths=[30, 40, 40])
    x = torch.randn(2, 1, 9, 9)
    found = [layer for layer in net.backbone.modules() if type(layer) is nn.Conv2d]
    assert [(layer.in_channels, layer.out_channels) for layer in found] == [
        *((24, 30), (30, 30)),
        *((30, 40), (40, 40)),
        *((40, 40), (40, 40)),
    ]
    for layer in found:
        wide = x.expand(-1, layer.in_channels, -1, -1) * torch.arange(1.0, layer.in_channels + 1)[:, None, None]
        assert torch.equal(layer(wide)[:, : layer.in_channels], wide)
        assert layer.out_channels == layer.in_channels or layer.weight[layer.in_channels :].std() > 0
    plain = conv_whitened(MEAN, STD, 5, widths=[30], dirac=False).backbone[2]  # type: ignore[index]
    assert not torch.equal(plain(x.expand(-1, 24, -1, -1))[:, :24], x.expand(-1, 24, -1, -1))


def test_the_largest_of_each_feature_or_their_mean() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(0)
    largest = conv_whitened(MEAN, STD, None, widths=[8], normalize=False)
    torch.manual_seed(0)
    mean = conv_whitened(MEAN, STD, None, widths=[8], pool=False, normalize=False)
    features = mean.eval().backbone(mean.normalised(images))
    assert features.shape == (2, 8, 7, 7)
    assert torch.allclose(mean(images), features.mean((2, 3)))
    assert torch.allclose(largest.eval()(images), features.amax((2, 3)))


def test_images_smaller_than_a_filter_and_widths_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^data\.image_size: whitening needs 2x2 pixels or more, found 1x8$"):
        Whitening().fit(torch.zeros(4, 3, 1, 8))
    for widths in ([], [4, 0]):
        with pytest.raises(ConfigError, match=r"^model\.widths="):
            conv_whitened(MEAN, STD, 5, widths=widths)
    for given, says in (
        (
            {"widths": [16, 24], "norm": "group"},
            r"model\.widths=\[16, 24\]: with model\.norm=group expected multiples of 16",
        ),
        (
            {"widths": [16], "norm": "groups"},
            r"model\.norm=groups: expected one of batch, group; did you mean 'group'\?$",
        ),
    ):
        with pytest.raises(ConfigError, match=says):
            conv_whitened(MEAN, STD, 5, **given)


def test_with_groups_no_image_sees_the_others_of_its_batch() -> None:
    images = torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for norm, alike in (("group", True), ("batch", False)):
        torch.manual_seed(0)
        net = conv_whitened(MEAN, STD, 5, widths=[16, 32], norm=norm).train().double()
        whole = net(images)
        cut = torch.cat([net(images[:2]), net(images[2:])])
        assert torch.allclose(whole, cut, rtol=1e-9, atol=1e-12) == alike


def test_a_checkpoint_has_the_filters_of_training_images_and_goes_on_bit_for_bit(
    train_cli: Cli, cli: Cli, tmp_path: Path
) -> None:
    """All that a recipe is made of at once: whitening, averaged weights, Muon, alternating flips, decay apart."""
    words = [
        "data=digits model=conv_whitened model.widths=[4,6] data.images_per_class=12 batches=balanced",
        "batches.images_per_class=3 data.batch_size=30 augment=crop_flip loss=proxy_softmax_supcon",
        "figures.draw=false evaluation.flip=true",
        "data.augment.flip=alternating data.augment.border=reflection data.augment.crop_padding=2",
        "callbacks.ema=0.9 callbacks.checkpoint_every=1 evaluation.resamples=0 optimizer=muon",
    ]
    common = " ".join(words).split()
    train_cli(*common, "trainer.max_epochs=3", f"hydra.run.dir={tmp_path / 'whole'}")
    train_cli(*common, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'cut'}")
    train_cli(f"resume={tmp_path / 'cut'}", "trainer.max_epochs=3")
    whole, cut = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("whole", "cut"))
    assert whole is not None
    assert cut is not None
    for what in ("state_dict", "raw"):
        assert whole[what].keys() == cut[what].keys()
        assert all(torch.equal(whole[what][name], cut[what][name]) for name in whole[what])
    first = read_checkpoint(tmp_path / "whole/checkpoints/epoch-0001.ckpt")
    assert first is not None
    name = "net.backbone.0.weight"
    assert torch.equal(first["state_dict"][name], whole["raw"][name])
    assert whole["state_dict"]["net.backbone.0.fitted"]
    assert not torch.equal(whole["state_dict"]["net.backbone.2.weight"], whole["raw"]["net.backbone.2.weight"])
