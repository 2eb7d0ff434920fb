"""Groups of images of one class: small classes, and classes in proportion to their images."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import toy_images, write_folder
from support.processes import Cli

from siamese.config.schema import Data
from siamese.data import SiameseData
from siamese.data.batches import Balanced
from siamese.data.batches.balanced import class_groups
from siamese.data.batches.groups import class_weights, classes_of_batches, weighted_groups

WEIGHTS = ("images", "sqrt")
TOY = Data(val_fraction=0.2)


@st.composite
def weighted(draw: st.DrawFn) -> tuple[np.ndarray, str, int]:
    """Images of each class, how classes are weighted, and how many groups a micro-batch can take of them."""
    counts = np.array(draw(st.lists(st.integers(1, 300), min_size=2, max_size=12)))
    weight = draw(st.sampled_from(WEIGHTS))
    weights = class_weights(counts, weight)
    return counts, weight, draw(st.integers(1, int(weights.sum() // weights.max())))


@given(given=weighted(), batches=st.integers(1, 30), size=st.integers(2, 9), seed=st.integers(0, 99))
@settings(deadline=None)
def test_micro_batches_are_of_different_classes_in_proportion(
    given: tuple[np.ndarray, str, int], batches: int, size: int, seed: int
) -> None:
    counts, weight, batch_groups = given
    labels = np.arange(len(counts)).repeat(counts)
    groups = weighted_groups(labels, size, weight, batches, batch_groups, np.random.default_rng(seed))
    assert groups.shape == (batches * batch_groups, size)
    assert (labels[groups] == labels[groups[:, :1]]).all()
    classes = labels[groups[:, 0]].reshape(batches, batch_groups)
    assert all(len(set(of_batch)) == batch_groups for of_batch in classes.tolist())
    share = counts / counts.sum() if weight == "images" else np.sqrt(counts) / np.sqrt(counts).sum()
    had = np.bincount(classes.ravel(), minlength=len(counts))
    assert (np.abs(had - share * len(groups)) < 1 + 1e-3).all()
    for label, count in enumerate(counts.tolist()):
        of_class = groups[labels[groups[:, 0]] == label]
        for group in of_class.tolist():
            times = Counter(group).values()
            assert len(times) == min(count, size)
            assert max(times) - min(times) <= 1
        a_pass = count // size
        for start in range(0, len(of_class), a_pass or 1):
            used = of_class[start : start + a_pass]
            assert len(np.unique(used)) == used.size  # no image twice before all that fill a group came once


def test_a_class_has_its_share_in_the_mean_and_meets_every_other() -> None:
    counts, random = np.array([50, 30, 15, 4, 1]), np.random.default_rng(0)
    drawn = np.stack([classes_of_batches(counts, 5, 2, random) for _ in range(4000)])
    np.testing.assert_allclose(np.bincount(drawn.ravel()) / drawn.size, counts / 100, atol=0.004)
    first, second = drawn.reshape(-1, 2).T
    met = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert len(met) == 4  # the largest class is in every micro-batch
    even = np.stack([classes_of_batches(np.full(6, 7), 3, 2, random) for _ in range(300)]).reshape(-1, 2)
    assert len({frozenset(pair) for pair in even.tolist()}) == 15
    assert 0.4 < (even[:, 0] < even[:, 1]).mean() < 0.6  # a place in a micro-batch is no class's own


@given(counts=st.lists(st.integers(1, 20), min_size=2, max_size=6), size=st.integers(2, 9), seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_small_class_fills_its_groups_with_each_image_alike(counts: list[int], size: int, seed: int) -> None:
    labels = np.arange(len(counts)).repeat(counts)
    groups = class_groups(labels, size, np.random.default_rng(seed))
    assert len(groups) == len(counts) * max(1, len(labels) // (size * len(counts)))
    for group in groups.tolist():
        times = Counter(group).values()
        assert len(set(labels[group])) == 1
        assert len(times) == min(counts[labels[group[0]]], size)
        assert max(times) - min(times) <= 1


def test_even_groups_are_those_that_they_have_always_been() -> None:
    groups = class_groups(np.arange(3).repeat([4, 5, 6]), 2, np.random.default_rng(0))
    assert groups.tolist() == [[2, 0], [13, 14], [6, 8], [1, 3], [10, 11], [7, 5]]


@pytest.mark.parametrize("weight", WEIGHTS)
def test_an_epoch_keeps_as_many_images_and_is_drawn_anew(weight: str) -> None:
    source = toy_images([20, 60, 40, 30], size=4)
    kind = Balanced(3, small_classes="repeat", weight=weight)
    data = SiameseData(source, dataclasses.replace(TOY, batch_size=6), 0, kind)
    images = len(data.parts["train"])
    assert images - 6 - 3 < len(data.loader) * 6 <= images
    batches = [batch.images.tolist() for batch in data.loader]
    assert all(len(set(source.labels[batch].tolist())) == 2 for batch in batches)
    assert batches == [batch.images.tolist() for batch in data.loader]
    data.loader.epoch = lambda: 1
    assert batches != [batch.images.tolist() for batch in data.loader]


@pytest.mark.parametrize(
    ("counts", "weight", "says"),
    [
        ([40, 20, 10], "classes", "largest class, 'class0', is seen 0.53 times, one of the smallest, 'class2', 2.1 "),
        (
            [40, 20, 10],
            "sqrt",
            "'class0', is seen 0.78 times, one of the smallest, 'class2', 1.6 times (batches.weight=sqrt)",
        ),
        ([40, 20, 15], "images", None),
        ([40, 35, 30], "classes", None),
    ],
)
def test_it_says_when_images_are_seen_unevenly(
    counts: list[int], weight: str, says: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"class{c}" for c in range(len(counts))]
    with caplog.at_level(logging.INFO, logger="siamese"):
        Balanced(3, weight=weight).check(np.array(counts), names, 1, "data.batch_size=3")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (says is not None)
    assert says is None or says in lines[0]


def test_how_often_is_how_often(caplog: pytest.LogCaptureFixture) -> None:
    source = toy_images([60, 30, 15], size=4)
    kind = Balanced(3)
    with caplog.at_level(logging.INFO, logger="siamese"):
        data = SiameseData(source, dataclasses.replace(TOY, batch_size=6), 0, kind)
    said = [r.args for r in caplog.records if r.name == "siamese.data.batches.balanced"]
    drawn = data.epoch(0).items.ravel()
    images = np.bincount(source.labels[data.parts["train"]])
    seen = np.bincount(source.labels[drawn]) / images
    assert len(said) == 1
    assert said[0] is not None
    assert said[0][1] == pytest.approx(seen[0])  # type: ignore[index]
    assert said[0][3] == pytest.approx(seen[2])  # type: ignore[index]


def test_an_uneven_folder_trains_from_the_command_line(train_cli: Cli, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {"cat": 40, "dog": 20, "owl": 12}, size=(8, 8))
    words = (
        *("data=image_folder", f"data.root={folder}", f"data.cache_dir={tmp_path / 'cache'}", "data.image_size=8"),
        *("model=conv_small", "model.width=4", "trainer.max_epochs=1", "figures.draw=false", "device=cpu"),
        *("batches=balanced", "loss=triplet_batch_all", "data.val_fraction=0.3", "data.test_fraction=0.3"),
    )
    refused = train_cli(*words, "data.batch_size=16", check=False)
    assert refused.returncode == 2
    assert "class 'owl' has only 6 training images; expected fewer, or batches.small_cl" in refused.stderr
    wrong = train_cli(*words, "batches.weight=image", check=False)
    assert "batches.weight=image: expected one of classes, images, sqrt; did you mean 'images'?" in wrong.stderr
    done = train_cli(*words, "data.batch_size=16", "batches.small_classes=repeat", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.stdout.count("'owl'") == 1
    assert "(batches.weight=classes)" in done.stdout
