"""Where a split begins and ends to be possible, what it says where it is not, and that it stays what it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from siamese.config.schema import Data
from siamese.data import LabelledImages, split_images
from siamese.data.draws import generator
from siamese.errors import ConfigError

BY_IMAGE = Data(split="by_image", val_fraction=0.25, test_fraction=0.5)
KFOLD = dataclasses.replace(BY_IMAGE, split="kfold", folds=3, fold=1)


def images(counts: list[int], test: int = 0) -> LabelledImages:
    """So many of each class, and after them ``test`` of the first class for the test part."""
    labels = np.concatenate([np.arange(len(counts)).repeat(counts), np.zeros(test, dtype=np.int64)])
    n = len(labels)
    pixels, ids = torch.zeros(n, 3, 2, 2, dtype=torch.uint8), np.array([f"{i}" for i in range(n)])
    return LabelledImages(pixels, torch.from_numpy(labels), tuple("abc"[: len(counts)]), ids, np.arange(n) >= n - test)


def test_four_images_a_class_can_be_split_and_three_cannot() -> None:
    found = split_images(images([4, 4], test=2), BY_IMAGE, 0)
    assert (len(found.train), len(found.validation), len(found.test)) == (4, 4, 2)
    with pytest.raises(ConfigError) as refused:
        split_images(images([4, 3], test=2), BY_IMAGE, 0)
    assert str(refused.value) == (
        "data.val_fraction=0.25: class 'b' has 3 images; expected at least 2 to hold out and 2 to keep, found 2 and 1"
    )
    with pytest.raises(ConfigError) as refused:
        split_images(images([1, 4], test=2), BY_IMAGE, 0)
    assert str(refused.value) == (
        "data.val_fraction=0.25: class 'a' has 1 images; expected at least 2 to hold out and 2 to keep, found 2 and 0"
    )
    with pytest.raises(ConfigError, match=r"^data\.test_fraction=0\.5: class 'a' has 3 images"):
        split_images(images([3, 4]), BY_IMAGE, 0)


def test_two_images_a_fold_are_enough_and_fewer_are_not() -> None:
    found = split_images(images([6, 7], test=2), KFOLD, 0)
    assert (len(found.train), len(found.validation)) == (9, 4)
    with pytest.raises(ConfigError) as refused:
        split_images(images([6, 5], test=2), KFOLD, 0)
    assert str(refused.value) == "data.folds=3: class 'b' has 5 images; expected at least 6, two a fold"


def test_the_articles_split_leaves_every_image_in_training() -> None:
    source = images([6, 7], test=3)
    found = split_images(source, dataclasses.replace(BY_IMAGE, split="article"), 0)
    assert np.array_equal(found.train, np.flatnonzero(~source.is_test))
    assert np.array_equal(found.test, np.flatnonzero(source.is_test))
    assert len(found.validation) == 0


def test_a_seed_always_makes_the_same_split() -> None:
    """Every part is drawn under its own name, as runs with which later ones are paired by their seed have it."""
    source = images([8, 9])
    found = split_images(source, BY_IMAGE, 3)
    labels, pool = source.labels.numpy(), np.arange(17)
    for fraction, key, part in ((0.5, "data.test_fraction", found.test), (0.25, "data.val_fraction", found.validation)):
        random = generator(3, key)
        held = []
        for label in (0, 1):
            members = pool[labels[pool] == label]
            held.append(random.choice(members, max(2, round(len(members) * fraction)), replace=False))
        assert np.array_equal(part, np.sort(np.concatenate(held)))
        pool = np.setdiff1d(pool, part)
    assert np.array_equal(found.train, pool)
    random = generator(3, "kfold")
    folds = split_images(images([8, 9], test=2), KFOLD, 3)
    labels = images([8, 9], test=2).labels.numpy()
    pool = np.flatnonzero(~images([8, 9], test=2).is_test)
    members = [random.permutation(pool[labels[pool] == label]) for label in (0, 1)]
    assert np.array_equal(folds.validation, np.sort(np.concatenate([np.array_split(m, 3)[1] for m in members])))
