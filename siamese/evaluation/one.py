"""One measure of an embedding by itself, for what is looked at after every epoch."""

from __future__ import annotations

import numpy as np
import torch

from siamese.evaluation import geometry, retrieval, spread, verification
from siamese.evaluation.blocks import problem, rows
from siamese.evaluation.names import METRICS, NO_CLASSES, Undefined, Values
from siamese.evaluation.probes import clustering, linear_probe

OF_TRIPLETS = [name.removeprefix("pairs_") for name in METRICS if name.startswith("pairs_")]
OF_TRIPLETS += ["good_triplets", "accuracy"]
WITHOUT_CLASSES = [name for name in (*spread.NAMES, "cos_mean") if name != "alignment"]


def value_of(
    name: str,
    embeddings: np.ndarray,
    labels: np.ndarray,
    triplets: np.ndarray,
    classes: int,
    *,
    threshold: float | None = None,
    spread_images: int | None = None,
) -> float | Undefined:
    """The measure ``name`` as :func:`siamese.evaluation.measure.measure` has it, bit for bit, at the cost of its own
    family alone.

    Args:
        name: one of :data:`METRICS` that has a direction.
        embeddings: float32 [N, D].
        labels: int64 [N], places among ``classes`` classes; all below 0 where the images have none.
        triplets: positions [T, 3] of anchor, positive and negative.
        threshold: the Euclidean distance that ``accuracy`` is measured at; None takes the best for these triplets.
        spread_images: see :func:`siamese.evaluation.spread.spread`.

    Raises:
        ValueError: for another name.
    """
    if reason := problem(embeddings, labels):
        return Undefined(reason)
    if (labels < 0).all() and name not in WITHOUT_CLASSES:
        return Undefined(NO_CLASSES)
    if name == "cos_mean":
        few = Undefined("it needs 2 images, found 1")
        return verification.mean_cosine(rows(embeddings, labels).unit) if len(labels) > 1 else few
    if name == "linear_probe":
        return linear_probe(rows(embeddings, labels))
    if name in OF_TRIPLETS:
        return _of_triplets(name, embeddings, triplets, threshold)
    return _family(name, embeddings, labels, classes, spread_images)[name]


def _family(name: str, embeddings: np.ndarray, labels: np.ndarray, classes: int, spread_images: int | None) -> Values:
    """All measures that are found together with ``name``."""
    if name in verification.PAIRS_NAMES:
        return verification.verification_of_all_pairs(embeddings, labels)
    if name in retrieval.NAMES:
        return retrieval.retrieval(embeddings, labels)
    if name in ("nmi", "ami"):
        return clustering(rows(embeddings, labels))
    if name in geometry.NAMES:
        return geometry.geometry(geometry.distance_matrix(embeddings, labels, classes))
    if name in spread.NAMES:
        return spread.spread(embeddings, labels, spread_images)
    raise ValueError(f"{name!r}: expected a measure that has a direction")


def _of_triplets(name: str, embeddings: np.ndarray, triplets: np.ndarray, threshold: float | None) -> float | Undefined:
    if not len(triplets):
        return Undefined("no triplet can be formed of these images")
    if name == "accuracy":
        positive, negative = verification.pair_distances(embeddings, triplets)
        used = verification.best_threshold(positive, negative) if threshold is None else threshold
        return verification.accuracy(positive, negative, used)
    z, places = torch.from_numpy(embeddings), torch.from_numpy(triplets)
    if name.startswith(("eer", "tar_")):
        fpr, tpr = (rate.double().numpy() for rate in verification.roc(z, places))
        return verification.error_rates(fpr, tpr, len(triplets))[name]
    return verification.verification(z, places)[name]
