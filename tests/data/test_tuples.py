"""Tuples against the loops that they were once drawn by, and where classes are many, small or several."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamese.data import tuples
from siamese.data.batches.balanced import class_groups
from siamese.data.tuples import article_triplets, check_classes, consecutive_pairs, draw_triplets, keep_apart
from siamese.errors import ConfigError


def article_by_loop(labels: np.ndarray, per_class: int | None, random: np.random.RandomState) -> np.ndarray:
    triplets = []
    for label in np.unique(labels):
        members, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        pairs = members[: len(members) // 2 * 2].reshape(-1, 2)
        wanted = len(pairs) if per_class is None else per_class
        negatives = others[random.choice(len(others), min(wanted, len(others)), replace=False)]
        count = min(len(pairs), len(negatives))
        triplets.append(np.column_stack([pairs[:count], negatives[:count]]))
    return np.concatenate(triplets)


def drawn_by_loop(labels: np.ndarray, per_class: int | None, random: np.random.Generator) -> np.ndarray:
    triplets = []
    for label in np.unique(labels):
        members, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        if len(members) < 2:
            continue
        count = len(members) if per_class is None else per_class
        rounds = [random.permutation(len(members)) for _ in range(-(-count // len(members)))]
        anchor = np.concatenate(rounds)[:count]
        positive = members[(anchor + random.integers(1, len(members), count)) % len(members)]
        negative = np.concatenate([others[labels[others] < label], others[labels[others] > label]])
        negative = negative[np.argsort(labels[negative], kind="stable")][random.integers(0, len(others), count)]
        triplets.append(np.column_stack([members[anchor], positive, negative]))
    return np.concatenate(triplets)


@given(
    labels=st.lists(st.integers(0, 5), min_size=6, max_size=60),
    per_class=st.none() | st.integers(1, 20),
    seed=st.integers(0, 50),
)
@settings(deadline=None, max_examples=150)
def test_triplets_are_those_of_the_loops_draw_for_draw(labels: list[int], per_class: int | None, seed: int) -> None:
    of_images = np.array([*labels, 0, 0, 1, 1])
    found = article_triplets(of_images, per_class, np.random.RandomState(seed))
    assert np.array_equal(found, article_by_loop(of_images, per_class, np.random.RandomState(seed)))
    found = draw_triplets(of_images, per_class, np.random.default_rng(seed))
    assert np.array_equal(found, drawn_by_loop(of_images, per_class, np.random.default_rng(seed)))


def test_a_single_image_and_one_of_no_class_are_negatives_only() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2, -1, -1])
    random = np.random.default_rng(0)
    triplets = np.concatenate([draw_triplets(labels, None, random) for _ in range(200)])
    assert set(labels[triplets[:, :2]].ravel()) == {0, 2}
    assert set(triplets[:, 2]) == set(range(8))
    assert set(labels[consecutive_pairs(labels, None, random)].ravel()) == {0, 2}


@given(seed=st.integers(0, 30), counts=st.lists(st.integers(2, 9), min_size=2, max_size=6))
@settings(deadline=None, max_examples=40)
def test_negatives_drawn_one_by_one_are_different_and_of_other_classes(seed: int, counts: list[int]) -> None:
    labels = np.random.default_rng(seed).permutation(np.arange(len(counts)).repeat(counts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuples, "WHOLE_DRAWS", 0)
        found = article_triplets(labels, None, np.random.RandomState(seed))
    expected = article_by_loop(labels, None, np.random.RandomState(seed))
    assert np.array_equal(found[:, :2], expected[:, :2])
    assert (labels[found[:, 2]] != labels[found[:, 0]]).all()
    of_class = labels[found[:, 0]]
    assert all(len(set(found[of_class == c, 2])) == (of_class == c).sum() for c in range(len(counts)))


def test_negatives_drawn_one_by_one_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuples, "WHOLE_DRAWS", 0)
    random, labels = np.random.RandomState(0), np.array([0, 1, 0, 1, 1, 2, 2])
    found = np.concatenate([article_triplets(labels, None, random) for _ in range(4000)])
    negatives = np.bincount(found[labels[found[:, 0]] == 1, 2], minlength=7) / 4000
    assert np.allclose(negatives, np.array([1, 0, 1, 0, 0, 1, 1]) / 4, atol=0.03)


def test_ten_thousand_classes_take_no_time() -> None:
    labels = np.random.default_rng(0).permutation(np.arange(10_000).repeat(10))
    drawn = {
        "drawn": lambda: draw_triplets(labels, None, np.random.default_rng(0)),
        "pairs": lambda: consecutive_pairs(labels, None, np.random.default_rng(0)),
        "article": lambda: article_triplets(labels, 2500, np.random.RandomState(0)),
        "groups": lambda: class_groups(labels, 4, np.random.default_rng(0)),
    }
    for name, draw in drawn.items():
        began = time.process_time()
        draw()
        assert time.process_time() - began < 2, name


@given(
    labels=st.lists(st.integers(0, 4), min_size=4, max_size=30),
    more=st.lists(st.tuples(st.integers(0, 29), st.integers(0, 4)), max_size=12),
    seed=st.integers(0, 20),
)
@settings(deadline=None, max_examples=150)
def test_images_that_share_a_class_are_never_negatives(
    labels: list[int], more: list[tuple[int, int]], seed: int
) -> None:
    of_images = np.array([*labels, 5, 5, 6, 6])  # classes that no image has besides another
    several = np.array([pair for pair in more if pair[0] < len(labels)], dtype=np.int64).reshape(-1, 2)
    classes = [{label} | set(several[several[:, 0] == i, 1].tolist()) for i, label in enumerate(of_images.tolist())]
    before = draw_triplets(of_images, None, np.random.default_rng(seed))
    after = keep_apart(before, of_images, several, np.random.default_rng(seed))
    assert np.array_equal(before[:, :2], after[:, :2])
    for (anchor, _, was), (_, _, negative) in zip(before.tolist(), after.tolist(), strict=True):
        assert not classes[anchor] & classes[negative]
        assert was == negative or classes[anchor] & classes[was]


def test_an_image_of_every_class_has_no_negative() -> None:
    labels, more = np.array([0, 0, 1, 1]), np.array([[0, 1]])
    with pytest.raises(ConfigError, match="image 0 of the part, by its several labels, is of a class of every other"):
        keep_apart(np.array([[0, 1, 2]]), labels, more, np.random.default_rng(0))


def test_a_part_needs_two_classes_and_a_pair() -> None:
    labels = np.array([0, 0, 1, 2, -1])
    check_classes(labels, np.array([0, 1, 2]), "abc", "train images")
    with pytest.raises(ConfigError, match=r"^train images: expected at least 2 classes, found 1 \(a\)$"):
        check_classes(labels, np.array([0, 1, 4]), "abc", "train images")
    with pytest.raises(
        ConfigError, match=r"expected a class of at least 2 images, an anchor and a positive, found none"
    ):
        check_classes(labels, np.array([0, 2, 3]), "abc", "train images")
