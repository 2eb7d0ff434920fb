"""Verification on all pairs of images: are two of the same class?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from siamese.evaluation.blocks import Block, Rows, every_pair, rows
from siamese.evaluation.curve import Curve, error_rates
from siamese.evaluation.names import PAIRS_METRICS, Values, undefined

# Squared distances of unit vectors are counted in bins by the first 15 bits of their fraction, so that a bin is 2^-15
# or less of its distance, near or far.
SHIFT = 8
BINS = (int(np.float32(4.0).view(np.int32)) >> SHIFT) + 2
HISTOGRAM_BINS = 128
UNSURE = 1e-4  # of an AUC, for pairs that share a bin; beyond it the worst bins are counted more finely
MOST_CROWDED = 1 << 14


def verification_of_all_pairs(embeddings: np.ndarray, labels: np.ndarray) -> Values:
    """Measure ``embeddings`` [N, D] of classes ``labels`` [N] on all N(N-1)/2 pairs; see :meth:`PairCounts.values`.

    Raises:
        ValueError: see :func:`siamese.evaluation.blocks.rows`.
    """
    prepared = rows(embeddings, labels)
    return count_pairs(prepared, lambda: every_pair(prepared.unit)).values()


def count_pairs(prepared: Rows, blocks: Callable[[], Iterable[Block]]) -> PairCounts:
    """Count the pairs of ``prepared`` that ``blocks`` gives; where many of both kinds are in one bin, twice."""
    counts = PairCounts(prepared)
    for block in blocks():
        counts.add(block)
    if len(crowded := counts.crowded()):
        counts.finer = FinerCounts(prepared, crowded)
        for block in blocks():
            counts.finer.add(block)
    return counts


class PairCounts:
    """Pairs of images, counted by class and distance.

    Attributes:
        positive, negative: int64 [BINS], pairs of the same class and of different ones, nearest first.
        euclid, squared: the sums of the distances of each, and of their squares.
        finer: what is known of bins that hold too many of both.
    """

    finer: FinerCounts | None = None

    def __init__(self, prepared: Rows) -> None:
        self.rows, self.labels = prepared, torch.from_numpy(prepared.labels)
        self.positive = np.zeros(BINS, dtype=np.int64)
        self.negative = np.zeros(BINS, dtype=np.int64)
        self.euclid = {"positive": 0.0, "negative": 0.0}
        self.squared = {"positive": 0.0, "negative": 0.0}

    def add(self, block: Block) -> None:
        """Count the pairs of ``block``."""
        self.labels = self.labels.to(block.squared.device)
        positive = block.squared[self.labels[block.rows] == self.labels[block.columns]]
        everything = self._count(block.squared)
        same = self._count(positive)
        self.positive += same[0]
        self.negative += everything[0] - same[0]
        for sums, of_all, of_same in zip((self.euclid, self.squared), everything[1:], same[1:], strict=True):
            sums["positive"] += of_same
            sums["negative"] += of_all - of_same

    def _count(self, squared: torch.Tensor) -> tuple[np.ndarray, float, float]:
        """How many there are a bin, the sum of their roots, and their own."""
        if not squared.numel():
            return np.zeros(BINS, dtype=np.int64), 0.0, 0.0
        bins = (squared.view(torch.int32) >> SHIFT).view(-1)
        counts = torch.bincount(bins, minlength=BINS).cpu().numpy()
        return counts, squared.sqrt().sum(dtype=torch.float64).item(), squared.sum(dtype=torch.float64).item()

    def values(self) -> Values:
        """The measures of :func:`siamese.evaluation.verification.verification` under ``pairs_*``.

        Distances in one bin count as ties. The AUC is then at most half the share of pairs of one kind times that of
        the other, summed over the bins, from the exact one. Where that is more than 1e-4, as near collapse, the bins
        that hold most of both are counted by all bits that :func:`siamese.evaluation.blocks.tie_key` has.
        """
        positives, negatives = int(self.positive.sum()), int(self.negative.sum())
        if not positives or not negatives:
            return undefined(PAIRS_METRICS, "no class has two images" if not positives else "there is one class only")
        curve = self.curve()
        values: Values = {"auc": curve.area, **error_rates(curve)}
        for name, count, cosines in zip(self.euclid, (positives, negatives), self._cosines(), strict=True):
            values |= {f"cos_{name}": cosines / count, f"euclid_{name}": self.euclid[name] / count}
        return {name: values[name.removeprefix("pairs_")] for name in PAIRS_METRICS}

    def _cosines(self) -> tuple[float, float]:
        """The sums of the cosines of each kind of pair: of all pairs of images from the sums of the unit vectors of
        each class, which is as exact as float64; of others from the distances."""
        positives, negatives = int(self.positive.sum()), int(self.negative.sum())
        unit = self.rows.unit.numpy()
        if positives + negatives < len(unit) * (len(unit) - 1) // 2:
            return positives - self.squared["positive"] / 2, negatives - self.squared["negative"] / 2
        sums = np.add.reduceat(unit, self.rows.starts[:-1])
        same = (np.square(sums).sum() - len(unit)) / 2
        everything = (np.square(sums.sum(0)).sum() - len(unit)) / 2
        return float(same), float(everything - same)

    def crowded(self) -> np.ndarray:
        """The bins, ascending, in which the AUC is too unsure: pairs of both kinds count as ties there."""
        total = 2.0 * self.positive.sum() * self.negative.sum()
        unsure = self.positive * self.negative / max(total, 1.0)
        if unsure.sum() <= UNSURE:
            return np.empty(0, dtype=np.int64)
        most = np.argsort(-unsure, kind="stable")[:MOST_CROWDED]
        return np.sort(most[unsure[most].cumsum() - unsure[most] < unsure.sum() - UNSURE / 10])

    def curve(self) -> Curve:
        """Their ROC curve."""
        filled = np.flatnonzero(self.positive + self.negative)
        bits, positive, negative = filled << SHIFT, self.positive[filled], self.negative[filled]
        bits[filled > 0] += 1 << (SHIFT - 1)  # the middle of a bin, but where all are at one place
        if self.finer is not None:
            others = ~np.isin(filled, self.finer.bins)
            bits = np.concatenate([bits[others], self.finer.bits])
            positive = np.concatenate([positive[others], self.finer.positive])
            negative = np.concatenate([negative[others], self.finer.negative])
            order = np.argsort(bits, kind="stable")
            order = order[positive[order] + negative[order] > 0]
            bits, positive, negative = bits[order], positive[order], negative[order]
        distances = np.sqrt(bits.astype(np.int32).view(np.float32).astype(np.float64))
        return Curve.counted(distances, positive, negative)

    def histogram(self) -> dict[str, np.ndarray]:
        """``positive`` and ``negative`` pairs, int64 [128], by cosine between ``edges`` [129] from -1 to 1; an edge
        belongs to the bin below it."""
        edges = 1 - np.arange(HISTOGRAM_BINS + 1) * 2 / HISTOGRAM_BINS
        first = (2 - 2 * edges).astype(np.float32).view(np.int32) >> SHIFT
        first[-1] = BINS  # the last bin holds the opposite pairs too
        counted = {}
        for name, counts in (("positive", self.positive), ("negative", self.negative)):
            below = np.concatenate([[0], counts.cumsum()])
            counted[name] = np.diff(below[first])[::-1].copy()
        return {"edges": edges[::-1].copy(), **counted}


class FinerCounts(PairCounts):
    """Pairs whose distances are in some of the bins, counted by all of their 24 bits.

    Attributes:
        bins: int64 [B], ascending.
        bits: int64 [B * 256], the distances that ``positive`` and ``negative`` are counted at.
    """

    def __init__(self, prepared: Rows, bins: np.ndarray) -> None:
        super().__init__(prepared)
        self.bins, self.bits = bins, ((bins << SHIFT)[:, None] + np.arange(1 << SHIFT)).ravel()
        self.positive, self.negative = (np.zeros(len(self.bits), dtype=np.int64) for _ in range(2))
        self.place = torch.full((BINS,), -1, dtype=torch.int64)
        self.place[bins] = torch.arange(len(bins))

    def _count(self, squared: torch.Tensor) -> tuple[np.ndarray, float, float]:
        self.place = self.place.to(squared.device)
        bits = squared.view(torch.int32).view(-1)
        place = self.place[bits >> SHIFT]
        inside = place >= 0
        finer = (place[inside] << SHIFT) + (bits[inside] & ((1 << SHIFT) - 1))
        return torch.bincount(finer, minlength=len(self.bits)).cpu().numpy(), 0.0, 0.0
