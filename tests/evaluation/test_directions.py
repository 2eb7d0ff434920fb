"""The direction that a measure is said to have is that in which it moves when an embedding is made better."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from siamese.evaluation.given_pairs import pair_verification
from siamese.evaluation.measure import measure
from siamese.evaluation.names import METRICS, PAIR_METRICS, direction

CLASSES, IMAGES, SIZE = 5, 24, 12
LABELS = np.arange(CLASSES).repeat(IMAGES)
NOISE = np.random.default_rng(0).normal(size=(len(LABELS), SIZE))
CENTRES = np.eye(CLASSES, SIZE)

VERIFICATION = ["auc", "eer", "tar_at_far_1e-1", "tar_at_far_1e-2", "tar_at_far_1e-3"]
# What is made better, from the first embedding to the second, and the measures that say so.
BETTER = {
    "images come nearer to those of their class": (
        CENTRES[LABELS] + 0.45 * NOISE,
        CENTRES[LABELS] + 0.3 * NOISE,
        [
            *VERIFICATION,
            *(f"pairs_{name}" for name in VERIFICATION),
            *("accuracy", "folds_accuracy", "good_triplets", "cos_positive", "euclid_positive"),
            *("pairs_cos_positive", "pairs_euclid_positive"),
            *("recall_at_1", "recall_at_5", "recall_at_10", "map_at_r", "r_precision", "mrr"),
            *("knn_1", "knn_5", "knn_20", "linear_probe", "nmi", "ami"),
            *("intra_distance", "separation", "alignment", "pair_accuracy", "pair_auc"),
        ],
    ),
    "classes go apart": (
        CENTRES[LABELS] + 0.6 * CENTRES.sum(0) + 0.2 * NOISE,
        CENTRES[LABELS] + 0.2 * NOISE,
        [
            *("cos_negative", "euclid_negative", "pairs_cos_negative", "pairs_euclid_negative", "cos_mean"),
            *("inter_distance", "separation", "uniformity", "effective_rank", "auc", "pairs_auc"),
        ],
    ),
    "images spread over more of the sphere": (
        NOISE * np.linspace(1, 0.05, SIZE),
        NOISE,
        [
            *("uniformity", "effective_rank", "participation_ratio", "entropy"),
            *("nn_distance_q05", "nn_distance_median", "nn_distance_q95"),
        ],
    ),
}


def triplets() -> np.ndarray:
    random = np.random.default_rng(1)
    anchors = np.arange(len(LABELS)).repeat(10)
    positives = LABELS[anchors] * IMAGES + (anchors + random.integers(1, IMAGES, len(anchors))) % IMAGES
    negatives = (anchors + IMAGES * random.integers(1, CLASSES, len(anchors))) % len(LABELS)
    return np.stack([anchors, positives, negatives], axis=1)


def measured(embeddings: np.ndarray) -> dict[str, object]:
    z = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    found = triplets()
    pairs = torch.from_numpy(np.concatenate([found[:, :2], found[:, ::2]]))
    of_pairs = pair_verification(torch.from_numpy(z), torch.from_numpy(LABELS), pairs, 0.9)
    return {**measure(z, LABELS, found, 5).values, **of_pairs}


@functools.cache
def moved(better: str) -> tuple[dict[str, object], dict[str, object]]:
    before, after, _ = BETTER[better]
    return measured(before), measured(after)


@pytest.mark.parametrize(
    ("better", "name"), [(better, name) for better, (*_, names) in BETTER.items() for name in names]
)
def test_a_measure_moves_the_way_its_direction_says(better: str, name: str) -> None:
    before, after = (float(values[name]) for values in moved(better))  # type: ignore[arg-type]
    assert before != after
    assert direction(name) == ("max" if after > before else "min")


def test_every_measure_with_a_direction_is_moved() -> None:
    named = {name for *_, names in BETTER.values() for name in names}
    assert named == {name for name, way in (METRICS | PAIR_METRICS).items() if way is not None}
