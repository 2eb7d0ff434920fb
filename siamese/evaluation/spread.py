"""Spread: how much of the sphere the embeddings use, and how evenly."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from scipy.special import digamma, gammaln

from siamese.evaluation.blocks import Block, Rows, every_pair, rows, total
from siamese.evaluation.names import SPREAD_METRICS, Undefined, Values, undefined
from siamese.evaluation.retrieval import all_against_all, rank

QUANTILES = {"nn_distance_q05": 0.05, "nn_distance_median": 0.5, "nn_distance_q95": 0.95}
SAME = 1e-24  # a variance of unit vectors below it is that of float64's rounding


def spread(
    embeddings: np.ndarray, labels: np.ndarray, images: int | None = None, most_images: int | None = None
) -> Values:
    """Measure ``embeddings`` [N, D] of classes ``labels`` [N]; see :meth:`Spread.values`.

    With ``images``, on so many evenly spaced rows: distances to the nearest neighbour shrink as there
    are more images, and only measures over the same number compare. Of more than ``most_images`` not all pairs are
    looked at.

    Raises:
        ValueError: see :func:`siamese.evaluation.blocks.rows`.
    """
    if images is not None:
        if images > len(embeddings):
            return undefined(
                SPREAD_METRICS, f"evaluation.spread_images={images} images were asked for, found {len(embeddings)}"
            )
        chosen = np.linspace(0, len(embeddings) - 1, images).astype(int)
        embeddings, labels = embeddings[chosen], labels[chosen]
    prepared = rows(embeddings, labels)
    few = most_images is None or len(prepared.order) <= most_images
    found = Spread(prepared, rank(all_against_all(prepared)).nearest, few)
    for block in every_pair(prepared.unit) if few else ():
        found.add(block)
    return found.values()


class Spread:
    """Nearest neighbours and the potential of all pairs.

    Attributes:
        nearest: int64 [N], the place of the nearest other row.
        all_pairs: whether :meth:`add` sees them all; without, there is no uniformity.
        potential: the sum of ``exp(−2 d²)`` over all pairs.
    """

    def __init__(self, prepared: Rows, nearest: np.ndarray, all_pairs: bool = True) -> None:
        self.rows, self.nearest, self.all_pairs = prepared, nearest, all_pairs
        self.potential = 0.0

    def add(self, block: Block) -> None:
        """Take in the pairs of ``block``."""
        self.potential += total((block.squared * -2).exp_())

    def values(self) -> Values:
        """Of the unit vectors:

        alignment: the mean squared distance of pairs of the same class, and uniformity: the log of the
        mean of ``exp(−2 d²)`` over all pairs (Wang and Isola 2020, Understanding contrastive
        representation learning through alignment and uniformity, section 4.1, α = 2, t = 2).
        effective_rank: ``exp(−Σ p log p)``, p the singular values over their sum (Garrido et al. 2023,
        RankMe, equations 1 and 2, without their ε). participation_ratio: ``(Σ λ)² / Σ λ²``, λ the
        eigenvalues of the covariance. nn_distance_*: quantiles of the Euclidean distance to the nearest
        other image. entropy: :func:`kozachenko_leonenko` on the sphere, whose dimension is D − 1, in
        nats.
        """
        unit, count = self.rows.unit, len(self.rows.labels)
        if count < 2:
            return undefined(SPREAD_METRICS, "it needs 2 images, found 1")
        values: Values = {"alignment": self._alignment()}
        values["uniformity"] = Undefined(f"it needs all pairs of {count:,} images, more than evaluation.most_images")
        if self.all_pairs:
            values["uniformity"] = float(np.log(2 * self.potential / (count * (count - 1))))
        shares = self.singular_values[self.singular_values > 0] / self.singular_values.sum()
        values["effective_rank"] = float(np.exp(-(shares * np.log(shares)).sum()))
        eigenvalues = np.square(singular_values(unit.numpy() - unit.mean(0).numpy()))
        if eigenvalues.sum() > SAME * count:
            values["participation_ratio"] = float(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())
        else:
            values["participation_ratio"] = Undefined("all embeddings are the same")
        distances = torch.linalg.vector_norm(unit - unit[self.nearest], dim=1).numpy()
        values |= {name: float(np.quantile(distances, q)) for name, q in QUANTILES.items()}
        values["entropy"] = kozachenko_leonenko(distances, unit.shape[1] - 1)
        return values

    @cached_property
    def singular_values(self) -> np.ndarray:
        """Of the unit vectors, falling, float64 [min(N, D)]."""
        return singular_values(self.rows.unit.numpy())

    def _alignment(self) -> float | Undefined:
        """From the sums of the unit vectors of each class: Σ over pairs of ``2 − 2 cos``."""
        counts = self.rows.counts
        pairs = (counts * (counts - 1) / 2).sum()
        if not pairs:
            return Undefined("no class has two images")
        sums = np.add.reduceat(self.rows.unit.numpy(), self.rows.starts[:-1])
        cosines = (np.square(sums).sum() - counts.sum()) / 2
        return float(max(0.0, 2 - 2 * cosines / pairs))


def kozachenko_leonenko(distances: np.ndarray, dimension: int) -> float | Undefined:
    """The differential entropy, in nats, of what points were drawn from, by how far each is from the next.

    ``ψ(N) − ψ(1) + log V_m + (m/N) Σ log d_i`` with V_m the volume of the unit ball of m dimensions
    (Kozachenko and Leonenko 1987; in this form Kraskov et al. 2004, equation 20). Flat space is assumed
    within d_i, so points that fill many dimensions sparsely come out with too large an entropy.

    Args:
        distances: [N], Euclidean, of each point to its nearest other one.
        dimension: m, of the space that the points fill.
    """
    if dimension < 1:
        return Undefined("it needs an embedding of at least 2 dimensions, found 1")
    if same := int((distances == 0).sum()):
        return Undefined(f"{same} of {len(distances)} embeddings lie on another one")
    ball = dimension / 2 * np.log(np.pi) - gammaln(dimension / 2 + 1)
    mean_log = np.log(distances).mean()
    return float(digamma(len(distances)) - digamma(1) + ball + dimension * mean_log)


def singular_values(matrix: np.ndarray) -> np.ndarray:
    """The singular values of [N, D], falling, float64 [min(N, D)]."""
    return torch.linalg.svdvals(torch.from_numpy(np.asarray(matrix, dtype=np.float64))).numpy()  # MKL's: a third
