"""Where a split begins and ends to be possible, what it says where it is not, and that it stays what it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from siamese.config.data import Data
from siamese.data import LabelledImages, split_images
from siamese.data.draws import generator
from siamese.errors import ConfigError

BY_IMAGE = Data(split="by_image", val_fraction=0.25, test_fraction=0.5)
KFOLD = dataclasses.replace(BY_IMAGE, split="kfold", folds=3, fold=1)


def images(counts: list[int], test: int = 0) -> LabelledImages:
    """So many of each class, and after them ``test`` of each for the test part."""
    labels = np.concatenate([np.arange(len(counts)).repeat(counts), np.arange(len(counts)).repeat(test)])
    n, names = len(labels), tuple(f"class{c}" for c in range(len(counts)))
    pixels, ids = torch.zeros(n, 3, 2, 2, dtype=torch.uint8), np.array([f"{i}" for i in range(n)])
    return LabelledImages(pixels, torch.from_numpy(labels), names, ids, np.arange(n) >= n - test * len(counts))


def refused(source: LabelledImages, data: Data) -> str:
    with pytest.raises(ConfigError) as raised:
        split_images(source, data, 0)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def test_four_images_a_class_can_be_split_and_three_cannot() -> None:
    found = split_images(images([4, 4], test=2), BY_IMAGE, 0)
    assert (len(found.train), len(found.validation), len(found.test)) == (4, 4, 4)
    assert refused(images([4, 3, 1], test=2), BY_IMAGE) == (
        "data.small_classes=refuse: 2 of 3 classes have too few images for data.val_fraction=0.25, at least 2 images "
        "of each, and 2 to train on: 'class1' (3 images), 'class2' (1 image); expected more of each, or "
        "data.small_classes=train_only or drop"
    )
    found = split_images(images([8, 8]), BY_IMAGE, 0)
    assert (len(found.train), len(found.validation), len(found.test)) == (4, 4, 8)
    said = refused(images([9, *[5] * 8]), BY_IMAGE)
    assert "8 of 9 classes have too few images for data.test_fraction=0.5 and data.val_fraction=0.25" in said
    assert "'class5' (5 images) and 3 more;" in said


def test_two_images_a_fold_are_enough_and_fewer_are_not() -> None:
    found = split_images(images([6, 7], test=2), KFOLD, 0)
    assert (len(found.train), len(found.validation)) == (9, 4)
    said = refused(images([6, 5], test=2), KFOLD)
    assert "1 of 2 classes has too few images for 2 in each of data.folds=3: 'class1' (5 images)" in said


@pytest.mark.parametrize("treatment", ["train_only", "drop"])
def test_small_classes_are_trained_on_alone_or_left_out(treatment: str) -> None:
    source = images([20, 20, 3, 1])
    found = split_images(source, dataclasses.replace(BY_IMAGE, small_classes=treatment), 0)
    labels = source.labels.numpy()
    assert set(labels[found.validation]) == set(labels[found.test]) == {0, 1}
    assert np.bincount(labels[found.train], minlength=4)[2:].tolist() == (
        [3, 1] if treatment == "train_only" else [0, 0]
    )
    (remark,) = found.remarks
    assert remark.startswith(f"data.small_classes={treatment}: 2 classes (4 images)")
    without = split_images(images([20, 20]), BY_IMAGE, 0)
    for part in ("train", "validation", "test"):  # the others are split as if there were no small ones
        of_others = getattr(found, part)[labels[getattr(found, part)] < 2]
        assert np.array_equal(of_others, getattr(without, part))


def test_a_single_test_image_of_a_class_is_refused_a_negative_or_left_out() -> None:
    source = images([9, 9, 9], test=2)
    source = source.take(np.arange(len(source.ids) - 1))
    assert refused(source, BY_IMAGE).startswith("test images: 1 class with one image (class2); expected at least 2 of")
    kept = split_images(source, dataclasses.replace(BY_IMAGE, small_classes="train_only"), 0)
    dropped = split_images(source, dataclasses.replace(BY_IMAGE, small_classes="drop"), 0)
    assert (len(kept.test), len(dropped.test)) == (5, 4)
    assert kept.remarks == ("data.small_classes=train_only: 1 class with one image in test a negative only",)


@given(counts=st.lists(st.integers(6, 23), min_size=2, max_size=12), folds=st.integers(2, 3), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_folds_partition_the_images_evenly_and_each_class_in_them(counts: list[int], folds: int, seed: int) -> None:
    source = images(counts, test=2)
    data = dataclasses.replace(KFOLD, folds=folds)
    parts = [split_images(source, dataclasses.replace(data, fold=f), seed) for f in range(folds)]
    held = [part.validation for part in parts]
    assert np.array_equal(np.sort(np.concatenate(held)), np.flatnonzero(~source.is_test))
    assert all(
        np.array_equal(np.union1d(p.train, p.validation), np.flatnonzero(~p_test))
        for p in parts
        for p_test in [source.is_test]
    )
    assert max(map(len, held)) - min(map(len, held)) <= 1
    table = np.stack([np.bincount(source.labels.numpy()[index], minlength=len(counts)) for index in held])
    assert (table.max(0) - table.min(0)).max() <= 1


def test_ten_classes_of_29_images_are_29_in_each_of_ten_folds() -> None:
    data = dataclasses.replace(KFOLD, folds=10)
    for number in range(10):
        found = split_images(images([29] * 10, test=2), dataclasses.replace(data, fold=number), 0)
        assert len(found.validation) == 29


# -- groups ----------------------------------------------------------------------------------------


def grouped(counts: list[int], size: int, seed: int, mixed: bool, test: int = 0) -> LabelledImages:
    """Images in groups of about ``size``, of one class or of several; some are in none."""
    source, random = images(counts, test), np.random.default_rng(seed)
    labels = source.labels.numpy()
    number = random.integers(0, max(1, len(labels) // (size * (1 if mixed else len(counts)))), len(labels))
    groups = np.array([f"g{n}" if mixed else f"g{c}/{n}" for c, n in zip(labels, number, strict=True)])
    groups = np.where(source.is_test, np.char.add("test", groups), groups)
    return dataclasses.replace(source, groups=np.where(random.random(len(labels)) < 0.1, "", groups))


@given(
    counts=st.lists(st.integers(30, 60), min_size=2, max_size=4),
    size=st.integers(1, 4),
    mixed=st.booleans(),
    split=st.sampled_from(["by_image", "kfold", "kfold groups"]),
    treatment=st.sampled_from(["train_only", "drop"]),
    test=st.sampled_from([0, 3]),
    seed=st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_no_group_is_in_two_parts(
    counts: list[int], size: int, mixed: bool, split: str, treatment: str, test: int, seed: int
) -> None:
    source = grouped(counts, size, seed, mixed, test)
    data = Data(split=split.split()[0], fold_over="groups" if "groups" in split else "images", small_classes=treatment)
    data = dataclasses.replace(data, val_fraction=0.3, test_fraction=0.3, folds=2)
    found = split_images(source, data, seed)
    again = split_images(source, data, seed)
    parts = [found.train, found.validation, found.test]
    together = np.concatenate(parts)
    assert len(np.unique(together)) == len(together)
    if treatment == "train_only":
        assert len(together) == len(source.ids)
    assert all(np.array_equal(x, y) for x, y in zip(parts, [again.train, again.validation, again.test], strict=True))
    assert source.groups is not None
    for group in set(source.groups.tolist()) - {""}:
        members = np.flatnonzero(source.groups == group)
        assert sum(bool(np.isin(members, part).any()) for part in parts) == 1
    if split == "by_image" and not mixed and size <= 2 and test:
        table = np.bincount(source.labels.numpy()[found.validation], minlength=len(counts))
        assert (np.abs(table - 0.3 * np.array(counts)) <= 8).all()


def test_folds_over_groups_are_even_in_images() -> None:
    source = grouped([60, 60, 60], 4, 0, mixed=True, test=3)
    data = dataclasses.replace(KFOLD, fold_over="groups", folds=3)
    held = [split_images(source, dataclasses.replace(data, fold=f), 0).validation for f in range(3)]
    assert np.array_equal(np.sort(np.concatenate(held)), np.flatnonzero(~source.is_test))
    assert max(map(len, held)) - min(map(len, held)) <= 2


def test_groups_that_two_parts_would_share_are_counted_and_named() -> None:
    source = images([20, 20], test=3)
    groups = np.array([f"g{i % 9}" for i in range(len(source.ids))])
    said = refused(dataclasses.replace(source, groups=groups), BY_IMAGE)
    assert "6 of 9 groups have images in two parts, for the source's own parts cut through them: g0, g4" in said
    assert "and 1 more; expected each group in one part" in said


def test_splits_that_the_source_has_no_use_for_are_refused() -> None:
    source = images([20, 20], test=3)
    over_groups = dataclasses.replace(KFOLD, fold_over="groups")
    assert refused(source, over_groups).startswith("data.fold_over=groups: the source names no groups; expected")
    few = dataclasses.replace(source, groups=np.where(source.is_test, "t", "g"))
    assert "1 groups of 40 images are too few for 2 images in each of data.folds=3" in refused(few, over_groups)
    article = dataclasses.replace(BY_IMAGE, split="article")
    assert "its triplets share images, and so groups" in refused(few, article)
    validated = dataclasses.replace(source, is_validation=np.arange(46) < 4)
    for data in (KFOLD, article):
        assert "the source sets 4 images apart for validation itself" in refused(validated, data)


# -- what the source says --------------------------------------------------------------------------


def test_the_validation_part_of_the_source_stays() -> None:
    source = images([20, 20], test=3)
    given = np.isin(np.arange(46), [0, 5, 25, 30])
    found = split_images(dataclasses.replace(source, is_validation=given), BY_IMAGE, 0)
    assert found.validation.tolist() == [0, 5, 25, 30]
    assert np.array_equal(found.train, np.flatnonzero(~given & ~source.is_test))


def test_images_without_a_class_are_split_as_if_of_one() -> None:
    source = images([30], test=0)
    source = dataclasses.replace(source, labels=torch.full((30,), -1), class_names=())
    found = split_images(source, BY_IMAGE, 0)
    assert (len(found.train), len(found.validation), len(found.test)) == (11, 4, 15)
    for data in (KFOLD, dataclasses.replace(BY_IMAGE, split="by_class")):
        assert refused(source, data).endswith("the images have no classes; expected data.split=by_image")
    some = images([20, 20], test=3)
    some.labels[3] = -1
    assert "1 of 40 images to train and validate on have no class" in refused(some, BY_IMAGE)


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
