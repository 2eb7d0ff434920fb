"""The plane that shows most of an embedding, and an ellipse around each class in it. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEAST = 3  # images that an ellipse is drawn around


@dataclass(frozen=True)
class Projection:
    """The first two principal components of some embeddings.

    Attributes:
        mean: float64 [D].
        components: float64 [2, D], of length 1, the largest entry of each positive.
        explained_variance_ratio: float64 [2], each one's share of the whole variance.
    """

    mean: np.ndarray
    components: np.ndarray
    explained_variance_ratio: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """The coordinates [N, 2] of ``embeddings`` [N, D]."""
        return (embeddings - self.mean) @ self.components.T


def fit_projection(*embeddings: np.ndarray) -> Projection:
    """Fit one projection on all of ``embeddings``, each [N_i, D]: several runs of the same dimension
    are put in one plane by fitting on all and applying it to each.

    Raises:
        ValueError: for fewer than 2 dimensions or 3 embeddings, or for embeddings that are all the same.
    """
    pooled = np.concatenate(embeddings).astype(np.float64)
    if pooled.shape[1] < 2 or len(pooled) < LEAST:
        raise ValueError(f"a plane needs {LEAST} embeddings of 2 dimensions, found {len(pooled)} of {pooled.shape[1]}")
    mean = pooled.mean(0)
    centred = pooled - mean
    variances, vectors = np.linalg.eigh(centred.T @ centred)
    total = variances.sum()
    if total <= 1e-24 * np.square(pooled).sum():
        raise ValueError("all embeddings are the same, and lie in no plane")
    components = vectors[:, :-3:-1].T
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    return Projection(mean, components * np.sign(largest), variances[:-3:-1].clip(min=0) / total)


class Ellipse(NamedTuple):
    """``centre`` [2]; ``width`` and ``height``, the full axes; ``angle`` of the first, in radians."""

    centre: np.ndarray
    width: float
    height: float
    angle: float

    @property
    def area(self) -> float:
        """``π · width · height / 4``."""
        return float(np.pi * self.width * self.height / 4)

    def outline(self, corners: int) -> np.ndarray:
        """So many points [corners, 2] around it, from the end of the first axis on."""
        turns = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        along = np.stack([self.width * np.cos(turns), self.height * np.sin(turns)], axis=1) / 2
        x, y = np.cos(self.angle), np.sin(self.angle)
        return self.centre + along @ np.array([[x, y], [-y, x]])


def ellipse(points: np.ndarray, coverage: float) -> Ellipse:
    """An ellipse around the median of ``points`` [N, 2], in the shape of their covariance, as large
    as the ``coverage`` quantile of their Mahalanobis distances.

    Raises:
        ValueError: for fewer than 3 points.
    """
    if len(points) < LEAST:
        raise ValueError(f"an ellipse needs {LEAST} images, found {len(points)}")
    centre = np.median(points, axis=0)
    covariance = np.cov(points, rowvar=False)
    away = points - centre
    squared = np.einsum("ni,ij,nj->n", away, np.linalg.pinv(covariance, hermitian=True), away)
    variances, vectors = np.linalg.eigh(covariance)
    width, height = 2 * np.sqrt(np.quantile(squared, coverage) * variances[::-1].clip(min=0))
    x, y = vectors[:, 1]
    return Ellipse(centre, float(width), float(height), float(np.arctan2(y, x)))


def ellipses(points: np.ndarray, labels: np.ndarray, classes: int, coverage: float) -> list[Ellipse | None]:
    """The :func:`ellipse` of each of ``classes`` classes; None for one with fewer than 3 images."""
    members = [points[labels == c] for c in range(classes)]
    return [ellipse(own, coverage) if len(own) >= LEAST else None for own in members]


def normalised_areas(found: Sequence[Ellipse | None], points: np.ndarray) -> list[float | None]:
    """The areas that the ellipses of ``points`` [N, 2] have once both coordinates are scaled to [0, 1].

    Median, covariance and Mahalanobis distances follow the scaling, so the ellipses do too, and their
    areas are divided by the area of the box around all points.
    """
    box = float(np.ptp(points, axis=0).prod())
    return [None if one is None or not box else one.area / box for one in found]
