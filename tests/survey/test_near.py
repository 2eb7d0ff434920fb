"""Perceptual hashes: the same for changes that nobody sees, others for other pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from siamese.config.data import Data
from siamese.data import load
from siamese.survey import near, near_duplicates, perceptual_hashes


def photographs(count: int, side: int = 48, seed: int = 0) -> Tensor:
    """Images whose frequencies fall off as those of photographs do."""
    random = torch.Generator().manual_seed(seed)
    parts = [
        torch.nn.functional.interpolate(torch.rand(count, 3, n, n, generator=random), (side, side), mode="bicubic") / n
        for n in (3, 6, 12, 24)
    ]
    images = torch.stack(parts).sum(0)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return ((images - low) / (high - low) * 255).to(torch.uint8)


def bits(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.array([bin(int(a) ^ int(b)).count("1") for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: tv.adjust_brightness(x, 0.9),
        lambda x: tv.jpeg(x, 60),
        lambda x: tv.resize(tv.resize(x, [32, 32]), [48, 48]),
        lambda x: tv.gaussian_blur(x, [3, 3]),
    ],
)
def test_changes_that_nobody_sees_leave_most_bits(change) -> None:
    images = photographs(30)
    changed = torch.stack([change(image) for image in images])
    hashes = perceptual_hashes(images)
    assert bits(hashes, perceptual_hashes(changed)).max() <= 8
    assert bits(hashes, np.roll(hashes, 1)).min() >= 12
    assert len(np.unique(hashes)) == 30


def test_a_hash_has_as_many_bits_of_either() -> None:
    counts = bits(perceptual_hashes(photographs(20)), np.zeros(20, np.uint64))
    assert counts.min() >= 30
    assert counts.max() <= 33


def test_pairs_are_those_of_every_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "ROWS", 7)
    images = load(Data(source={"_target_": "siamese.data.digits"}), 0).images[:200]
    hashes = perceptual_hashes(images)
    found = near_duplicates(images, 12)
    every = [
        (i, j, bin(int(hashes[i]) ^ int(hashes[j])).count("1")) for i in range(len(images)) for j in range(i + 1, 200)
    ]
    assert sorted(map(tuple, found.tolist())) == [pair for pair in every if pair[2] <= 12]
    assert len(found) > 3
    assert (np.diff(found[:, 2]) >= 0).all()


def test_copies_are_found_at_no_bits() -> None:
    images = photographs(8)
    assert near_duplicates(torch.cat([images, images[3:4]]), 0).tolist() == [[3, 8, 0]]
    assert near_duplicates(images[:1], 0).shape == (0, 3)
