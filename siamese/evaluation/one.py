"""One measure of an embedding by itself, for what is looked at after every epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from siamese.evaluation.blocks import problem, rows
from siamese.evaluation.geometry import geometry
from siamese.evaluation.measure import How, Roles, counted, described_by, few, of_triplets, search_of, too_many_images
from siamese.evaluation.names import (
    GEOMETRY_METRICS,
    NO_CLASSES,
    PAIRS_METRICS,
    RETRIEVAL_METRICS,
    ROLE_METRICS,
    SPREAD_METRICS,
    TRIPLET_METRICS,
    Undefined,
    Values,
)
from siamese.evaluation.probes import clustering, linear_probe
from siamese.evaluation.retrieval import rank
from siamese.evaluation.spread import spread
from siamese.evaluation.verification import mean_cosine

WITHOUT_CLASSES = [name for name in (*SPREAD_METRICS, "cos_mean") if name != "alignment"]


def value_of(
    name: str,
    embeddings: np.ndarray,
    labels: np.ndarray,
    triplets: np.ndarray,
    classes: int,
    how: How = How(),  # noqa: B008 (frozen)
    roles: Roles | None = None,
    points: np.ndarray | None = None,
) -> float | Undefined:
    """The measure ``name`` as :func:`siamese.evaluation.measure.measure` has it, bit for bit, at the cost of its own
    family alone; the other arguments are that function's.

    Args:
        name: one of :data:`METRICS` that has a direction.

    Raises:
        ValueError: for another name.
    """
    if reason := problem(embeddings, labels):
        return Undefined(reason)
    if (labels < 0).all() and name not in WITHOUT_CLASSES:
        return Undefined(NO_CLASSES)
    if name == "cos_mean":
        few_images = Undefined("it needs 2 images, found 1")
        return mean_cosine(rows(embeddings, labels).unit) if len(labels) > 1 else few_images
    how = replace(how, resamples=0)
    if name in TRIPLET_METRICS:
        return of_triplets(embeddings, labels, triplets, how).values[name]
    if name in GEOMETRY_METRICS:
        places = described_by(labels, points)
        return geometry(embeddings[places], labels[places], classes)[name]
    if name in ("linear_probe", "nmi", "ami"):
        own = labels >= 0
        labelled = rows(embeddings[own], labels[own])
        if name == "linear_probe":
            return linear_probe(labelled, how.most_classes)
        return clustering(labelled, how.most_classes)[name]
    return _of_pairs(name, embeddings, labels, how, roles)[name]


def _of_pairs(name: str, embeddings: np.ndarray, labels: np.ndarray, how: How, roles: Roles | None) -> Values:
    """All measures that are found together with ``name``, by looking at pairs of images."""
    if name in SPREAD_METRICS:
        return spread(embeddings, labels, how.spread_images, how.most_images)
    prepared = rows(embeddings, labels)
    search = search_of(prepared, labels, roles)
    if name in RETRIEVAL_METRICS or name in ROLE_METRICS:
        return rank(search, whole=roles is not None, device=how.device).values()
    if name in PAIRS_METRICS:
        if not few(how, len(prepared.order)):
            return too_many_images(how, prepared)
        return counted(prepared, search, roles is not None, how).values()
    raise ValueError(f"{name!r}: expected a measure that has a direction")
