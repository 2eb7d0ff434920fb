"""Augmentations of a batch against torchvision's of one image, and that each image has draws of its own."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import toy_images
from support.processes import Cli
from torch import Tensor

from siamese.config.data import Data
from siamese.data import SiameseData
from siamese.data.augment import (
    Augmentation,
    ColorJitter,
    Compose,
    CropFlip,
    Cutout,
    Flip,
    GaussianBlur,
    Grayscale,
    ResizedCrop,
    crop_and_flip,
    turn_hue,
)
from siamese.errors import ConfigError
from siamese.runs.read import read_metrics

EVERY: tuple[Augmentation, ...] = (
    CropFlip(),
    CropFlip(5, "alternating", "reflection"),
    Flip(),
    ResizedCrop(),
    ColorJitter(hue=0.2),
    Grayscale(),
    GaussianBlur(),
    Cutout(),
    Compose({"crop": ResizedCrop(), "flip": Flip(), "color": ColorJitter()}),
)


def batch(n: int, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    """Smooth images, as photographs are: what is compared by interpolation should not be noise."""
    coarse = torch.rand(n, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return (torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear") * 255).to(torch.uint8)


def drawn(n: int, step: Augmentation, seed: int = 1) -> Tensor:
    return torch.rand(n, step.draws, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("step", EVERY, ids=lambda step: type(step).__name__)
def test_an_image_follows_from_its_own_draws_alone(step: Augmentation) -> None:
    images, draws = batch(9), drawn(9, step)
    before = images.clone()
    whole = step(images, draws)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    assert torch.equal(images, before)
    for i in range(9):
        assert torch.equal(step(images[i : i + 1], draws[i : i + 1])[0], whole[i])
    assert not torch.equal(step(images, drawn(9, step, seed=2)), whole)


def test_a_crop_is_torchvisions() -> None:
    step, images = ResizedCrop(scale=(0.1, 1.0)), batch(40)
    draws = drawn(40, step)
    out = step(images, draws)
    for image, got, *box in zip(images, out, *step.box(draws, 24, 32), strict=True):
        expected = tv.resized_crop(image, *(int(side) for side in box), [24, 32], antialias=False)
        assert (got.int() - expected.int()).abs().max() <= 1


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 8), st.integers(0, 99))
def test_a_reflected_border_is_numpys(height: int, width: int, padding: int, seed: int) -> None:
    padding = min(padding, height - 1, width - 1)
    images = torch.randint(0, 256, (6, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()
    step = CropFlip(padding, True, "reflection")
    draws = drawn(6, step, seed)
    out = step(images, draws)
    wide = np.pad(images.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)), mode="reflect")
    for image, (y, x, f), got in zip(wide, draws.tolist(), out.numpy(), strict=True):
        top, left = int(y * (2 * padding + 1)), int(x * (2 * padding + 1))
        expected = image[:, top : top + height, left : left + width]
        assert np.array_equal(got, expected[:, :, ::-1] if f < 0.5 else expected)


def test_an_alternating_flip_mirrors_each_image_in_every_second_epoch() -> None:
    """Whatever place the image has in an epoch, also behind another step."""
    flip = {"_target_": "siamese.data.augment.CropFlip", "crop_padding": 0, "flip": "alternating"}
    grey = {"_target_": "siamese.data.augment.Grayscale", "p": 0.0}
    source = toy_images([20, 20], size=3)
    for augment in (flip, {"_target_": "siamese.data.augment.Compose", "steps": {"first": grey, "then": flip}}):
        data = SiameseData(source, Data(augment=augment, triplets="resampled", batch_size=4, val_fraction=0.2), seed=3)
        mirrored = []
        for epoch in range(4):
            items, draws = data.epoch(epoch)
            seen: dict[int, bool] = {}
            assert data.augment is not None
            assert isinstance(source.images, Tensor)
            pixels = source.images[items.flatten()]
            got = data.augment(pixels, draws.flatten(0, 1))
            as_it_is, flipped = ((got == one).all(3).all(2).all(1) for one in (pixels, pixels.flip(3)))
            assert (as_it_is ^ flipped).all()
            for image, found in zip(items.flatten().tolist(), flipped.tolist(), strict=True):
                assert seen.setdefault(image, found) is found
            mirrored.append(seen)
        assert 0.2 < np.mean([*mirrored[0].values()]) < 0.8
        for one, other in pairwise(mirrored):
            assert all(one[image] is not other[image] for image in one.keys() & other.keys())
            assert len(one.keys() & other.keys()) > 10


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)).map(sorted),
    st.integers(0, 99),
)
def test_a_part_is_within_its_image(height: int, width: int, scale: list[float], ratio: list[float], seed: int) -> None:
    step = ResizedCrop(scale, ratio)
    top, left, h, w = step.box(drawn(50, step, seed), height, width)
    for start, length, side in ((top, h, height), (left, w, width)):
        assert start.min() >= 0
        assert length.min() >= 1
        assert (start + length).max() <= side
    images = batch(50, height, width)
    out = step(images, drawn(50, step, seed))
    assert (out.amin((1, 2, 3)) >= images.amin((1, 2, 3))).all()
    assert (out.amax((1, 2, 3)) <= images.amax((1, 2, 3))).all()


def test_areas_and_shapes_are_those_asked_for() -> None:
    step = ResizedCrop(scale=(0.2, 0.6), ratio=(0.75, 1.3333))
    _, _, h, w = step.box(drawn(4000, step), 200, 200)
    areas, ratios = (h * w / 200**2).numpy(), (w / h).numpy()
    assert areas.min() == pytest.approx(0.2, abs=0.01)
    assert areas.max() == pytest.approx(0.6, abs=0.01)
    assert areas.mean() == pytest.approx(0.4, abs=0.01)
    assert np.log(ratios).mean() == pytest.approx(0, abs=0.01)
    assert ratios.max() == pytest.approx(1.3333, abs=0.03)


def test_colours_are_torchvisions() -> None:
    step, images = ColorJitter(0.4, 0.5, 0.6, 0.2), batch(20)
    draws = drawn(20, step)
    out = step(images, draws)
    for image, (_, b, c, s, h), got in zip(images, draws.tolist(), out, strict=True):
        x = tv.adjust_brightness(image.double() / 255, 0.6 + 0.8 * b)
        x = tv.adjust_saturation(tv.adjust_contrast(x, 0.5 + 1.0 * c), 0.4 + 1.2 * s)
        expected = (tv.adjust_hue(x, 0.2 * (2 * h - 1)) * 255).round().int()
        assert (got.int() - expected).abs().max() <= 1


def test_hue_is_torchvisions_of_greys_and_pure_colours_too() -> None:
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0])] * 3).t()[None, :, None, :]
    for turn in (-0.5, -0.21, 0.0, 0.1, 1 / 3, 0.5):
        assert torch.allclose(turn_hue(corners, torch.tensor([turn])), tv.adjust_hue(corners, turn), atol=1e-5)


def test_blur_is_torchvisions() -> None:
    step, images = GaussianBlur(sigma=(0.3, 2.0), p=1.0), batch(8, 60, 40)
    draws = drawn(8, step)
    out = step(images, draws)
    for image, (_, u), got in zip(images, draws.tolist(), out, strict=True):
        expected = tv.gaussian_blur(image, [5, 7], [0.3 + 1.7 * u] * 2)
        inside = (slice(None), slice(4, -4), slice(4, -4))  # torchvision reflects at the border
        assert (got[inside].int() - expected[inside].int()).abs().max() <= 1


def test_grey_is_torchvisions() -> None:
    images = batch(8)
    out = Grayscale(p=1.0)(images, torch.rand(8, 1))
    assert (out.int() - tv.rgb_to_grayscale(images, 3).int()).abs().max() <= 1


def test_a_square_is_left_out() -> None:
    step = Cutout(share=0.5)
    images = torch.randint(0, 256, (200, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = drawn(200, step)
    out = step(images, draws)
    for image, (u, v), got in zip(images, draws.tolist(), out, strict=True):
        top, left = math.floor(u * 20) - 5, math.floor(v * 20) - 5
        expected = image.clone()
        mean = image.float().mean((1, 2)).round().to(torch.uint8)
        expected[:, max(0, top) : top + 10, max(0, left) : left + 10] = mean[:, None, None]
        assert torch.equal(got, expected)


@pytest.mark.parametrize("step", [Flip(p=0.25), Grayscale(p=0.25), ColorJitter(p=0.25), GaussianBlur(p=0.25)])
def test_a_share_of_the_images_is_changed(step: Augmentation) -> None:
    images = torch.randint(0, 256, (800, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changed = (step(images, drawn(800, step)) != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.25, abs=0.05)


def test_steps_take_their_draws_in_order() -> None:
    images = batch(6, 16, 16)
    chain = Compose({"crop": CropFlip(2, flip=True), "cutout": Cutout(), "flip": Flip()})
    assert chain.draws == 6
    draws = drawn(6, chain)
    expected = Flip()(Cutout()(crop_and_flip(images, draws[:, :3], 2, True), draws[:, 3:5]), draws[:, 5:])
    assert torch.equal(chain(images, draws), expected)


def test_a_place_of_an_epoch_has_the_same_draws_however_it_is_cut() -> None:
    source = toy_images([30, 30, 30])
    node = {"_target_": "siamese.data.augment.Compose"}
    node |= {"steps": {"crop": {"_target_": "siamese.data.augment.ResizedCrop"}}}  # type: ignore[dict-item]
    images = []
    for batch_size in (4, 16):
        config = Data(source={"_target_": "x"}, triplets="resampled", batch_size=batch_size, augment=node)
        data = SiameseData(source, config, 0)
        batches = [data.on_after_batch_transfer(b, 0).images for b in data.train_dataloader()]
        images.append(data.layout.join(batches))
    assert torch.equal(*images)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ({"_target_": "siamese.data.augment.Flip", "p": 2}, "p=2: expected a share from 0 to 1"),
        ({"_target_": "siamese.data.augment.ResizedCrop", "scale": [0.5, 0.1]}, "expected two shares"),
        ({"_target_": "siamese.data.augment.ResizedCrop", "ratio": [0, 1]}, "expected two numbers above 0"),
        ({"_target_": "siamese.data.augment.GaussianBlur", "sigma": [1.0]}, "expected two numbers of pixels"),
        ({"_target_": "siamese.data.augment.ColorJitter", "hue": 0.7}, "hue=0.7"),
        ({"_target_": "siamese.data.augment.ColorJitter", "contrast": -1}, "contrast=-1"),
        ({"_target_": "collections.OrderedDict"}, "expected a siamese.data.augment.Augmentation, found OrderedDict"),
        (
            {"_target_": "siamese.data.augment.Compose", "steps": {"a": {"_target_": "collections.OrderedDict"}}},
            "steps.a: expected a siamese.data.augment.Augmentation",
        ),
    ],
)
def test_what_cannot_be_is_refused(node: dict[str, object], says: str) -> None:
    config = Data(source={"_target_": "x"}, triplets="resampled", augment=node)
    with pytest.raises(ConfigError, match=r"data\.augment") as refused:
        SiameseData(toy_images([30, 30]), config, 0)
    assert says in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["none", "resized_crop", "simclr", "cutout"])
def test_each_choice_trains(augment: str, train_cli: Cli, tmp_path: Path) -> None:
    words = "data=digits data.image_size=16 data.images_per_class=12 model=conv_small batches=views loss=ntxent"
    run = tmp_path / "run"
    train_cli(
        *words.split(),
        f"augment={augment}",
        "data.batch_size=32",
        "trainer.max_epochs=1",
        "figures.draw=false",
        "device=cpu",
        f"hydra.run.dir={run}",
    )
    assert [row["epoch"] for row in read_metrics(run / "metrics.csv")] == ["0", "1"]
