"""Splits whose validation and test have classes of their own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import toy_images

from siamese.config.data import Data
from siamese.data import LabelledImages, Split, split_images
from siamese.errors import ConfigError

BY_CLASS = Data(split="by_class", val_fraction=0.3, test_fraction=0.3)


def classes(source: LabelledImages, split: Split) -> list[set[int]]:
    labels = source.labels.numpy()
    return [set(labels[index].tolist()) for index in (split.train, split.validation, split.test)]


def refused(source: LabelledImages, data: Data) -> str:
    with pytest.raises(ConfigError) as raised:
        split_images(source, data, 0)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def half_tested(source: LabelledImages) -> LabelledImages:
    """``source`` with about half of each class in a test part of its own, as CIFAR-10 has one."""
    place = np.argsort(np.argsort(source.labels.numpy(), kind="stable"))
    return dataclasses.replace(source, is_test=place % 2 == 1)


@pytest.mark.parametrize("given_test", [False, True])
def test_ten_classes_become_five_two_and_three(given_test: bool) -> None:
    source = toy_images([12] * 10, size=1)
    source = half_tested(source) if given_test else source
    train, validation, test = classes(source, split_images(source, BY_CLASS, 0))
    assert (len(train), len(validation), len(test)) == (5, 2, 3)


@given(
    counts=st.lists(st.integers(4, 9), min_size=6, max_size=14),
    shares=st.tuples(st.floats(0.05, 0.3), st.floats(0.05, 0.3)),
    given_test=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_no_two_parts_share_a_class_and_tested_images_are_of_the_sources_test_part(
    counts: list[int], shares: tuple[float, float], given_test: bool, seed: int
) -> None:
    source = toy_images(counts, size=1, seed=seed)
    source = half_tested(source) if given_test else source
    data = dataclasses.replace(BY_CLASS, val_fraction=shares[0], test_fraction=shares[1])
    found = split_images(source, data, seed)
    train, validation, test = classes(source, found)
    assert train | validation | test == set(range(len(counts)))
    assert len(train) + len(validation) + len(test) == len(counts)
    assert len(test) == max(2, round(len(counts) * shares[1]))
    assert len(validation) == max(2, round((len(counts) - len(test)) * shares[0]))
    labels = source.labels.numpy()
    pool, tested = np.flatnonzero(~source.is_test), np.flatnonzero(source.is_test)
    for index, of_part, out_of in (
        (found.train, train, pool),
        (found.validation, validation, pool),
        (found.test, test, tested if given_test else pool),
    ):
        assert np.array_equal(index, out_of[np.isin(labels[out_of], list(of_part))])
    again = split_images(source, data, seed)
    assert np.array_equal(found.train, again.train)


def test_seeds_divide_classes_otherwise() -> None:
    source = toy_images([4] * 30, size=1)
    assert classes(source, split_images(source, BY_CLASS, 0)) != classes(source, split_images(source, BY_CLASS, 1))


def test_a_test_part_with_classes_of_its_own_stays_whole() -> None:
    source = toy_images([6] * 8, size=1)
    source = dataclasses.replace(source, is_test=source.labels.numpy() >= 5)
    found = split_images(source, BY_CLASS, 0)
    assert np.array_equal(found.test, np.flatnonzero(source.is_test))
    assert found.remarks == ()
    validated = dataclasses.replace(source, is_validation=np.isin(source.labels.numpy(), [1, 3]))
    found = split_images(validated, BY_CLASS, 0)
    assert classes(source, found) == [{0, 2, 4}, {1, 3}, {5, 6, 7}]


def test_what_is_left_out_is_said() -> None:
    source = half_tested(toy_images([12] * 10, size=1))
    assert split_images(source, BY_CLASS, 0).remarks == (
        "data.split=by_class: 60 images are of classes that another part has, and are left out",
    )


@pytest.mark.parametrize("number", range(4))
def test_folds_over_classes(number: int) -> None:
    source = toy_images([5] * 11, size=1)
    data = Data(split="kfold", fold_over="classes", folds=4, test_fraction=0.2)
    parts = [classes(source, split_images(source, dataclasses.replace(data, fold=f), 0)) for f in range(4)]
    assert len({frozenset(test) for _, _, test in parts}) == 1
    validated = [validation for _, validation, _ in parts]
    assert sum(map(len, validated)) == len(set().union(*validated)) == 9
    assert all(train | validation | test == set(range(11)) for train, validation, test in parts)
    assert len(validated[number]) in (2, 3)


def test_too_few_classes_are_refused() -> None:
    assert refused(toy_images([9] * 3, size=1), BY_CLASS) == (
        "data.split=by_class: found 3 classes of 2 images; expected at least 6, 2 to train on, 2 to validate, 2 to test"
    )
    folds = Data(split="kfold", fold_over="classes", folds=4)
    assert "data.fold_over=classes: found 7 classes of 2 images; expected at least 10" in refused(
        toy_images([9] * 7, size=1), folds
    )
    greedy = dataclasses.replace(BY_CLASS, val_fraction=0.9)
    assert refused(toy_images([9] * 10, size=1), greedy).startswith(
        "data.val_fraction=0.9: of 7 classes it holds out 6"
    )


def test_a_validation_part_that_shares_classes_is_refused() -> None:
    source = toy_images([9] * 8, size=1)
    source = dataclasses.replace(source, is_validation=np.arange(72) < 30)
    assert "the source's validation part shares 8 of its 8 classes with other parts" in refused(source, BY_CLASS)


def test_groups_at_odds_with_classes_are_refused() -> None:
    source = toy_images([9] * 8, size=1)
    groups = np.array([f"g{i % 3}" for i in range(72)])
    said = refused(dataclasses.replace(source, groups=groups), BY_CLASS)
    assert "3 of 3 groups have images in two parts, for classes cut through them: g0, g1, g2" in said


def test_classes_of_one_image_are_refused_trained_on_or_left_out() -> None:
    source = toy_images([9] * 8 + [1] * 7, size=1)
    said = refused(source, BY_CLASS)
    assert "7 of 15 classes have too few images to form a pair: 'class8' (1 image)" in said
    assert "and 2 more; expected 2 of each" in said
    for treatment, expected in (("train_only", set(range(8, 15))), ("drop", set())):
        found = split_images(source, dataclasses.replace(BY_CLASS, small_classes=treatment), 0)
        train, validation, test = classes(source, found)
        assert train & set(range(8, 15)) == expected
        assert max(validation | test) < 8
        assert any("7 classes (7 images)" in remark for remark in found.remarks)
