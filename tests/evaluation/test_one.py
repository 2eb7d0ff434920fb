"""One measure by itself is that of the whole evaluation, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from siamese.evaluation.measure import How, Roles, measure
from siamese.evaluation.names import METRICS, NO_CLASSES, Undefined
from siamese.evaluation.one import WITHOUT_CLASSES, value_of

DIRECTED = [name for name, direction in METRICS.items() if direction]
CLASSES = 4  # the last has no images


def cloud(counts: tuple[int, ...] = (9, 6, 12), seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    embeddings = (random.normal(size=(len(counts), 5))[labels] + random.normal(size=(len(labels), 5))).astype(
        np.float32
    )
    triplets = []
    for anchor in np.flatnonzero(np.array(counts)[labels] > 1):
        positive = np.flatnonzero((labels == labels[anchor]) & (np.arange(len(labels)) != anchor))
        triplets.append((anchor, random.choice(positive), random.choice(np.flatnonzero(labels != labels[anchor]))))
    return embeddings, labels, np.array(triplets)


HOW = {
    "defaults": (How(), None, None),
    "set": (How(threshold=0.9, spread_images=11, resamples=9), None, np.arange(0, 27, 2)),
    "bounded": (How(most_classes=2, most_images=20), None, None),
    "roles": (How(), Roles(np.arange(9), np.arange(5, 27), np.arange(27) % 3), None),
}


@pytest.mark.parametrize("settings", HOW.values(), ids=HOW)
def test_every_measure_that_has_a_direction(settings: tuple[How, Roles | None, np.ndarray | None]) -> None:
    embeddings, labels, triplets = cloud()
    whole = measure(embeddings, labels, triplets, CLASSES, *settings).values
    for name in DIRECTED:
        alone = value_of(name, embeddings, labels, triplets, CLASSES, *settings)
        assert alone == whole[name], name  # undefined ones compare by their reason
    assert isinstance(whole["tar_at_far_1e-3"], Undefined)
    assert isinstance(whole["map_at_r"], float)


def test_what_images_without_classes_have() -> None:
    embeddings, labels, _ = cloud()
    labels, none = np.full_like(labels, -1), np.empty((0, 3), dtype=np.int64)
    whole = measure(embeddings, labels, none, 0).values
    found = {name: value_of(name, embeddings, labels, none, 0) for name in DIRECTED}
    assert found == {name: whole[name] for name in DIRECTED}
    assert {name for name, value in found.items() if value != Undefined(NO_CLASSES)} == {*WITHOUT_CLASSES}


@pytest.mark.parametrize(
    ("counts", "name", "reason"),
    [
        ((9, 2, 9), "linear_probe", "found a class of 2"),
        ((1, 1, 1), "map_at_r", "no class has two images"),
        ((5,), "inter_distance", "there is one class only"),
    ],
)
def test_what_is_undefined_says_why(counts: tuple[int, ...], name: str, reason: str) -> None:
    embeddings, labels, _ = cloud(counts if len(counts) > 1 else (5, 2))
    keep = labels < len(counts)
    none = np.empty((0, 3), dtype=np.int64)
    found = value_of(name, embeddings[keep], labels[keep], none, len(counts))
    assert found == measure(embeddings[keep], labels[keep], none, len(counts)).values[name]
    assert isinstance(found, Undefined)
    assert reason in found.reason


def test_embeddings_that_cannot_be_measured_and_names_without_a_direction() -> None:
    embeddings, labels, triplets = cloud()
    with pytest.raises(ValueError, match="ellipse_area_mean"):
        value_of("ellipse_area_mean", embeddings, labels, triplets, 3)
    embeddings[4] = np.nan
    found = value_of("recall_at_1", embeddings, labels, triplets, 3)
    assert isinstance(found, Undefined)
    assert "row 4" in found.reason
