"""evaluation.points=anchors: classes are described by the anchors of the part's triplets, and by nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np

from siamese.config.schema import Evaluation
from siamese.data.tuples import article_split
from siamese.evaluation.names import AREA_METRICS, GEOMETRY_METRICS
from siamese.evaluator.measured import measured, points_of
from siamese.evaluator.part import Part

ANCHORS = Evaluation(points="anchors", resamples=0)


def test_the_articles_validation_has_1250_anchors() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 5000))  # as many as CIFAR-10 has
    _, validation = article_split(labels, 2500, seed=42)
    points = points_of(validation, ANCHORS)
    assert points is not None
    assert len(points) == 1250


def test_other_images_have_no_part_in_distances_and_ellipses() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(60) % 3
    triplets = np.stack([np.arange(15), np.arange(15) + 30, np.arange(1, 16)], axis=1)
    embeddings = random.normal(size=(60, 5)).astype(np.float32)
    moved = embeddings.copy()
    moved[15:] = random.normal(size=(45, 5))
    parts = [
        Part("test", of, labels, labels.astype(str), ["a", "b", "c"], triplets, lambda positions: positions)
        for of in (embeddings, moved)
    ]
    one, other = (measured(part, ANCHORS, None).values for part in parts)
    everything = measured(parts[1], dataclasses.replace(ANCHORS, points="images"), None).values
    assert one["recall_at_1"] != other["recall_at_1"]
    for name in (*GEOMETRY_METRICS, *AREA_METRICS):
        assert one[name] == other[name]
        assert one[name] != everything[name]
