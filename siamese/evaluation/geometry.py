"""Where the classes lie: mean cosine distances within and between them, in O(N·D)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from siamese.evaluation.blocks import directions
from siamese.evaluation.names import Values, undefined

NEAREST = 10  # classes that are kept of each, where there are too many for a matrix
BLOCK = 1 << 22  # distances of classes that are looked at at a time


class Confusion(NamedTuple):
    """Two classes by label, and the mean cosine distance between their images."""

    one: int
    other: int
    distance: float


class Classes:
    """The sums of the unit vectors of each of C classes, from which all mean distances follow.

    Attributes:
        counts: int64 [C].
        means: float64 [C, D], of the unit vectors; NaN for a class without images.
        within: float64 [C], the mean cosine distance of two images of it; NaN where there are none.
    """

    def __init__(self, embeddings: np.ndarray, labels: np.ndarray, classes: int) -> None:
        """Of ``embeddings`` [N, D] of classes ``labels`` [N]; those below 0 are left out."""
        there = labels >= 0
        self.counts = np.bincount(labels[there], minlength=classes)
        self.means = np.full((classes, embeddings.shape[1]), np.nan)
        filled = self.counts > 0
        order = np.argsort(labels, kind="stable")[np.count_nonzero(~there) :]
        starts = np.concatenate([[0], self.counts[filled].cumsum()[:-1]])
        if len(order):
            sums = np.add.reduceat(directions(embeddings)[order], starts)
            self.means[filled] = sums / self.counts[filled, None]
        pairs = self.counts * (self.counts - 1.0)
        squares = np.square(self.means * self.counts[:, None]).sum(1)
        self.within = 1 - np.divide(squares - self.counts, pairs, out=np.full(classes, np.nan), where=pairs > 0)

    def matrix(self) -> np.ndarray:
        """Mean cosine distances between the images of each two classes, float64 [C, C].

        The diagonal is over pairs of different images. What there is no pair for is NaN: the row of a class without
        images, the diagonal of one with a single image.
        """
        matrix = 1 - self.means @ self.means.T
        np.fill_diagonal(matrix, self.within)
        return matrix

    def nearest(self, count: int = NEAREST) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` classes nearest to each (fewer where there are not so many), int64 [C, K], nearest first, and
        their distances, float64 [C, K]; -1 and NaN for a class without images and at the end of fewer."""
        classes, filled = len(self.means), np.flatnonzero(self.counts)
        count = min(count, max(len(filled) - 1, 0))
        places, distances = np.full((classes, count), -1), np.full((classes, count), np.nan)
        means, size = self.means[filled], max(1, BLOCK // max(1, len(filled)))
        for start in range(0, len(filled) if count else 0, size):
            some = filled[start : start + size]
            apart = 1 - means[start : start + size] @ means.T
            apart[np.arange(len(some)), np.arange(start, start + len(some))] = np.inf
            near = np.argpartition(apart, count - 1, axis=1)[:, :count]
            near = np.take_along_axis(near, np.argsort(np.take_along_axis(apart, near, 1), axis=1, kind="stable"), 1)
            places[some], distances[some] = filled[near], np.take_along_axis(apart, near, 1)
        return places, distances

    def values(self) -> Values:
        """intra_distance, inter_distance: the mean over classes of the distance within, and over pairs of classes of
        that between. separation: the mean over classes of the mean distance to the others less the distance within.
        *_std: the standard deviation of what the mean is of. A class that has no images, or no pair, is left out."""
        values: Values = {}
        paired = np.isfinite(self.within)
        _describe(values, "intra_distance", self.within[paired], "no class has two images")
        means = self.means[self.counts > 0]
        others, squares = len(means) - 1, np.square(means).sum(1)
        if others < 1:
            values |= undefined(("inter_distance", "inter_distance_std"), "there is one class only")
        else:
            cosines = (means @ means.sum(0) - squares) / others  # of each class, the mean to all others
            mean = float(1 - cosines.mean())
            values |= {"inter_distance": mean, "inter_distance_std": _deviation(means, squares, mean)}
        reason = "there is one class only" if paired.any() else "no class has two images"
        apart = np.empty(0) if others < 1 else (1 - cosines - self.within[self.counts > 0])[paired[self.counts > 0]]
        _describe(values, "separation", apart, reason)
        return values


def distance_matrix(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """See :meth:`Classes.matrix`."""
    return Classes(embeddings, labels, classes).matrix()


def geometry(embeddings: np.ndarray, labels: np.ndarray, classes: int) -> Values:
    """See :meth:`Classes.values`."""
    return Classes(embeddings, labels, classes).values()


def most_confused(classes: Classes, count: int = 5) -> list[Confusion]:
    """The ``count`` pairs of classes nearest to each other, nearest first."""
    return _extreme(classes, count, 1.0)


def most_separated(classes: Classes, count: int = 5) -> list[Confusion]:
    """The ``count`` pairs of classes farthest from each other, farthest first."""
    return _extreme(classes, count, -1.0)


def _extreme(classes: Classes, count: int, sign: float) -> list[Confusion]:
    """The pairs of classes with the least distance times ``sign``, some rows of the matrix at a time."""
    filled = np.flatnonzero(classes.counts)
    means, size = classes.means[filled], max(1, BLOCK // max(1, len(filled)))
    found = np.empty((0, 3))
    for start in range(0, len(filled), size):
        apart = sign * (1 - means[start : start + size] @ means.T)
        one, other = np.nonzero(np.arange(start, start + len(apart))[:, None] < np.arange(len(filled)))
        least = np.argsort(apart[one, other], kind="stable")[:count]
        one, other = one[least], other[least]
        some = np.stack([filled[one + start], filled[other], apart[one, other]], axis=1)
        found = np.concatenate([found, some])
        found = found[np.argsort(found[:, 2], kind="stable")[:count]]
    return [Confusion(int(one), int(other), float(sign * distance)) for one, other, distance in found]


def _deviation(means: np.ndarray, squares: np.ndarray, mean: float) -> float:
    """The standard deviation of the distances between different classes, some rows of their matrix at a time."""
    count, total = len(means), 0.0
    for some in np.array_split(np.arange(count), -(-count * count // BLOCK)):
        total += float(np.square(1 - means[some] @ means.T - mean).sum())
    total -= float(np.square(1 - squares - mean).sum())  # each with itself
    return float(np.sqrt(max(0.0, total) / (count * (count - 1))))


def _describe(values: Values, name: str, found: np.ndarray, reason: str) -> None:
    if len(found):
        values |= {name: float(found.mean()), f"{name}_std": float(found.std())}
    else:
        values |= undefined((name, f"{name}_std"), reason)
