"""Verification on all pairs of images: are two of the same class?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from siamese.evaluation.blocks import Block, Rows, every_pair, rows, total
from siamese.evaluation.curve import Curve, error_rates
from siamese.evaluation.names import PAIRS_METRICS, Values, undefined

# Squared distances of unit vectors are counted in bins by the first 15 bits of their fraction, so that a bin is 2^-15
# or less of its distance, near or far.
SHIFT = 8
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


def count_pairs(prepared: Rows, blocks: Callable[[], Iterable[Block]], every: bool = True) -> PairCounts:
    """Count the pairs of ``prepared`` that ``blocks`` gives, ``every`` one or not; where many of both kinds are in one
    bin, twice."""
    counts = PairCounts(prepared, every)
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
        every: whether they are all pairs of ``rows``.
        euclid, squared: the sums of the distances of pairs of the same class and of different ones, and of their
            squares, unless they are all pairs.
        finer: what is known of bins that hold too many of both.
    """

    finer: FinerCounts | None = None

    def __init__(self, prepared: Rows, every: bool = True) -> None:
        self.rows, self.every, self.labels = prepared, every, torch.from_numpy(prepared.labels)
        self.euclid = {"positive": 0.0, "negative": 0.0}
        self.squared = {"positive": 0.0, "negative": 0.0}
        self._low, self._counts = 0, np.zeros((2, 0), dtype=np.int64)  # all pairs, and positive ones, from _low on
        self._zeros = np.zeros(2, dtype=np.int64)

    def add(self, block: Block) -> None:
        """Count the pairs of ``block``."""
        positive = self._positive(block)
        for kind, squared in enumerate((block.squared, positive)):
            self._count(kind, squared)
        sums = [(self.euclid, total(block.squared.sqrt()), total(positive.sqrt()))]
        if not self.every:
            sums.append((self.squared, total(block.squared), total(positive)))
        for of, of_all, of_same in sums:
            of["positive"] += of_same
            of["negative"] += of_all - of_same

    def _positive(self, block: Block) -> torch.Tensor:
        """Those of the same class."""
        squared, rows, columns = block
        self.labels = self.labels.to(squared.device)
        if squared.ndim == 2:  # rows and columns ascend, and a class is a slice: no later column is of a row's class
            reach = int(torch.searchsorted(self.labels[columns[0]], self.labels[rows[-1]], right=True))
            squared, columns = squared[:, :reach], columns[:, :reach]
        return squared[self.labels[rows] == self.labels[columns]]

    def _count(self, kind: int, squared: torch.Tensor) -> None:
        """Count one bin each; a distance of zero has no bin."""
        bits = squared.reshape(-1).view(torch.int32)
        if len(bits) and not int(bits.min()):
            inside = bits > 0
            self._zeros[kind] += len(bits) - int(inside.count_nonzero())
            bits = bits[inside]
        if not len(bits):
            return
        bins = bits >> SHIFT
        low = int(bins.min())
        counts = torch.bincount(bins.sub_(low)).cpu().numpy()
        if not self._counts.shape[1]:
            self._low = low
        before, after = max(0, self._low - low), max(0, low + len(counts) - self._low - self._counts.shape[1])
        if before or after:
            self._counts = np.pad(self._counts, ((0, 0), (before, after)))
            self._low -= before
        self._counts[kind, low - self._low : low - self._low + len(counts)] += counts

    def counted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The bins that hold pairs, int64 [K], nearest first, and how many of the same class and of different ones
        each does. Bin 0 is of no distance at all."""
        filled = np.flatnonzero(self._counts[0])
        bins, counts = filled + self._low, self._counts[:, filled]
        if self._zeros[0]:
            bins, counts = np.concatenate([[0], bins]), np.concatenate([self._zeros[:, None], counts], axis=1)
        return bins, counts[1], counts[0] - counts[1]

    def values(self) -> Values:
        """The measures of :func:`siamese.evaluation.verification.verification` under ``pairs_*``.

        Distances in one bin count as ties. The AUC is then at most half the share of pairs of one kind times that of
        the other, summed over the bins, from the exact one. Where that is more than 1e-4, as near collapse, the bins
        that hold most of both are counted by all bits that :func:`siamese.evaluation.blocks.tie_key` has.
        """
        positives, negatives = (int(counts.sum()) for counts in self.counted()[1:])
        if not positives or not negatives:
            return undefined(PAIRS_METRICS, "no class has two images" if not positives else "there is one class only")
        curve = self.curve()
        values: Values = {"auc": curve.area, **error_rates(curve)}
        kinds = zip(self.euclid, (positives, negatives), self._cosines(positives, negatives), strict=True)
        for name, count, cosines in kinds:
            values |= {f"cos_{name}": cosines / count, f"euclid_{name}": self.euclid[name] / count}
        return {name: values[name.removeprefix("pairs_")] for name in PAIRS_METRICS}

    def _cosines(self, positives: int, negatives: int) -> tuple[float, float]:
        """The sums of the cosines of each kind of pair: of all pairs of images from the sums of the unit vectors of
        each class, which is as exact as float64; of others from the distances."""
        unit = self.rows.unit.numpy()
        if not self.every:
            return positives - self.squared["positive"] / 2, negatives - self.squared["negative"] / 2
        sums = np.add.reduceat(unit, self.rows.starts[:-1])
        same = (np.square(sums).sum() - len(unit)) / 2
        everything = (np.square(sums.sum(0)).sum() - len(unit)) / 2
        return float(same), float(everything - same)

    def crowded(self) -> np.ndarray:
        """The bins, ascending, in which the AUC is too unsure: pairs of both kinds count as ties there."""
        bins, positive, negative = self.counted()
        unsure = positive * negative / max(2.0 * positive.sum() * negative.sum(), 1.0)
        unsure[bins == 0] = 0  # which are ties
        if unsure.sum() <= UNSURE:
            return np.empty(0, dtype=np.int64)
        most = np.argsort(-unsure, kind="stable")[:MOST_CROWDED]
        return np.sort(bins[most[unsure[most].cumsum() - unsure[most] < unsure.sum() - UNSURE / 10]])

    def curve(self) -> Curve:
        """Their ROC curve."""
        bins, positive, negative = self.counted()
        bits = bins << SHIFT
        bits[bins > 0] += 1 << (SHIFT - 1)  # the middle of a bin
        if self.finer is not None:
            others = ~np.isin(bins, self.finer.bins)
            finer, same, different = self.finer.counted()
            bits = np.concatenate([bits[others], finer])
            order = np.argsort(bits, kind="stable")
            bits = bits[order]
            positive = np.concatenate([positive[others], same])[order]
            negative = np.concatenate([negative[others], different])[order]
        distances = np.sqrt(bits.astype(np.int32).view(np.float32).astype(np.float64))
        return Curve.counted(distances, positive, negative)

    def histogram(self) -> dict[str, np.ndarray]:
        """``positive`` and ``negative`` pairs, int64 [128], by cosine between ``edges`` [129] from -1 to 1; an edge
        belongs to the bin below it."""
        edges = 1 - np.arange(HISTOGRAM_BINS + 1) * 2 / HISTOGRAM_BINS
        first = (2 - 2 * edges).astype(np.float32).view(np.int32) >> SHIFT
        bins, *kinds = self.counted()
        places = np.searchsorted(bins, first)
        places[-1] = len(bins)  # the last bin holds the opposite pairs too
        counted = {}
        for name, counts in zip(("positive", "negative"), kinds, strict=True):
            counted[name] = np.diff(np.concatenate([[0], counts.cumsum()])[places])[::-1].copy()
        return {"edges": edges[::-1].copy(), **counted}


class FinerCounts(PairCounts):
    """Pairs whose distances are in some of the bins, counted by all of their 24 bits.

    Attributes:
        bins: int64 [B], ascending.
    """

    def __init__(self, prepared: Rows, bins: np.ndarray) -> None:
        super().__init__(prepared)
        self.bins, self._places = bins, torch.from_numpy(bins)
        self._counts = np.zeros((2, len(bins) << SHIFT), dtype=np.int64)

    def _count(self, kind: int, squared: torch.Tensor) -> None:
        bits, bins = squared.view(torch.int32).view(-1), self._places.to(squared.device)
        place = torch.searchsorted(bins, bits >> SHIFT).clamp_(max=len(bins) - 1)
        inside = bins[place] == bits >> SHIFT
        finer = (place[inside] << SHIFT) + (bits[inside] & ((1 << SHIFT) - 1))
        self._counts[kind] += torch.bincount(finer, minlength=self._counts.shape[1]).cpu().numpy()

    def counted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same of the bits of distances."""
        filled = np.flatnonzero(self._counts[0])
        bits = (self.bins[filled >> SHIFT] << SHIFT) + (filled & ((1 << SHIFT) - 1))
        counts = self._counts[:, filled]
        return bits, counts[1], counts[0] - counts[1]
