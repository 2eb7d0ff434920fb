"""Where the classes lie: mean cosine distances within and between them, in O(N·D)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from siamese.evaluation.names import Values, undefined

NAMES = [f"{name}{suffix}" for name in ("intra_distance", "inter_distance", "separation") for suffix in ("", "_std")]


class Confusion(NamedTuple):
    """Two classes by label, and the mean cosine distance between their images."""

    one: int
    other: int
    distance: float


def distance_matrix(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean cosine distances between the images of each two of ``classes`` classes, float64 [C, C].

    The diagonal is over pairs of different images. What there is no pair for is NaN: the row of a class
    without images, the diagonal of one with a single image.
    """
    unit = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    sums = np.zeros((classes, unit.shape[1]))
    np.add.at(sums, labels, unit)
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    cosines, pairs = sums @ sums.T, np.outer(counts, counts)
    diagonal = np.diag_indices(classes)
    cosines[diagonal] -= counts
    pairs[diagonal] -= counts
    return 1 - np.divide(cosines, pairs, out=np.full_like(cosines, np.nan), where=pairs > 0)


def geometry(matrix: np.ndarray) -> Values:
    """Read a :func:`distance_matrix` [C, C]; a class that has no images, or no pair, is left out.

    Returns:
        intra_distance, inter_distance: the mean of the diagonal, and of what is off it.
        separation: the mean over classes of the mean distance to the others less the distance within.
        *_std: the standard deviation of what the mean is of, over the classes or pairs of classes.
    """
    within, between = np.diagonal(matrix), np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    paired, others = np.isfinite(within), np.isfinite(between)
    values: Values = {}
    _describe(values, "intra_distance", within[paired], "no class has two images")
    _describe(values, "inter_distance", between[others], "there is one class only")
    both = paired & others.any(1)
    apart = [between[c][others[c]].mean() - within[c] for c in np.flatnonzero(both)]
    reason = "there is one class only" if paired.any() else "no class has two images"
    _describe(values, "separation", np.array(apart), reason)
    return values


def most_confused(matrix: np.ndarray, count: int = 5) -> list[Confusion]:
    """The ``count`` pairs of classes nearest to each other by :func:`distance_matrix`, nearest first."""
    one, other = np.triu_indices(len(matrix), 1)
    distances = matrix[one, other]
    nearest = np.argsort(distances, kind="stable")[:count]  # NaN comes last
    return [Confusion(int(one[i]), int(other[i]), float(distances[i])) for i in nearest if np.isfinite(distances[i])]


def _describe(values: Values, name: str, found: np.ndarray, reason: str) -> None:
    if len(found):
        values |= {name: float(found.mean()), f"{name}_std": float(found.std())}
    else:
        values |= undefined((name, f"{name}_std"), reason)
