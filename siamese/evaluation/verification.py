"""Verification: are two images of the same class? On fixed triplets, and on all pairs of images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_roc

from siamese.evaluation.blocks import FLOOR, Rows, rows, sweep
from siamese.evaluation.names import FAR, METRICS, Undefined, Values, undefined

PAIRS_NAMES = [name for name in METRICS if name.startswith("pairs_")]
TRIPLETS_NAMES = [name.removeprefix("pairs_") for name in PAIRS_NAMES] + ["good_triplets"]

# Squared distances of unit vectors are counted in bins by the first 15 bits of their fraction, so that
# a bin is 2^-15 or less of its distance, near or far.
FRACTION_BITS = 15
SHIFT = 23 - FRACTION_BITS
FIRST_BIN = int(np.float32(FLOOR).view(np.int32)) >> SHIFT
BINS = (int(np.float32(4.0).view(np.int32)) >> SHIFT) - FIRST_BIN + 1
HISTOGRAM_BINS = 128


def verification(embeddings: Tensor, triplets: Tensor) -> dict[str, float]:
    """Measure ``embeddings`` [N, D] on ``triplets`` [T, 3] (positions of anchor, positive, negative).

    Anchor and positive are a pair of the same class, anchor and negative one of different classes;
    the cosine is the score.

    Returns:
        auc: the area under the ROC curve, the probability that a same-class pair scores higher
            (ties count one half). good_triplets: the share whose anchor is strictly nearer to its
            positive. cos_* and euclid_*: mean cosine and mean Euclidean distance of the unit vectors.
    """
    positive, negative = _cosines(embeddings, triplets)
    scores, same = _scores(positive, negative)
    return {
        "auc": binary_auroc(scores, same, thresholds=None).item(),
        "good_triplets": (scores[same == 1] > scores[same == 0]).double().mean().item(),
        "cos_positive": positive.mean().item(),
        "cos_negative": negative.mean().item(),
        "euclid_positive": _euclid(positive).mean().item(),
        "euclid_negative": _euclid(negative).mean().item(),
    }


def roc(embeddings: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positive rates, each [K], of the pairs of ``triplets`` by falling cosine."""
    fpr, tpr, _ = binary_roc(*_scores(*_cosines(embeddings, triplets)), thresholds=None)
    return fpr, tpr


def mean_cosine(embeddings: Tensor) -> float:
    """The mean cosine over all pairs of different rows of [N, D], in O(N·D)."""
    z = nn.functional.normalize(embeddings.double(), dim=1)
    count = len(z)
    return float((z.sum(0).square().sum() - count) / (count * (count - 1)))


def error_rates(fpr: np.ndarray, tpr: np.ndarray, negatives: int) -> Values:
    """Two readings of a ROC curve from (0, 0) to (1, 1), ``fpr`` and ``tpr`` [K] ascending.

    Returns:
        eer: the equal error rate, at which as large a share of the ``negatives`` pairs is accepted
            as of the others is refused; on the straight line between two thresholds.
        tar_at_far_*: the greatest share accepted of the pairs of the same class while at most that
            share of the others is; undefined where one pair of the others would be more.
    """
    gap = fpr - (1 - tpr)  # never falls, from -1 to 1
    after = int(np.searchsorted(gap, 0))
    values: Values
    if gap[after] == 0:
        values = {"eer": float(fpr[after])}
    else:
        share = -gap[after - 1] / (gap[after] - gap[after - 1])
        values = {"eer": float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))}
    for far in FAR:
        name, rate = f"tar_at_far_{far}", float(far)
        if negatives * rate < 1:
            values[name] = Undefined(f"it needs {round(1 / rate)} pairs of different classes, found {negatives}")
        else:
            values[name] = float(tpr[np.round(fpr * negatives) <= rate * negatives + 1e-9].max())
    return values


def pair_distances(embeddings: np.ndarray, triplets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances [T] of anchors to positives and [T] to negatives, of ``embeddings`` [N, D] as
    they are: of unit length where the model makes them so."""
    anchor, positive, negative = (embeddings[triplets[:, i]].astype(np.float64) for i in range(3))
    return np.linalg.norm(anchor - positive, axis=1), np.linalg.norm(anchor - negative, axis=1)


def accuracy(positive: np.ndarray, negative: np.ndarray, threshold: float) -> float:
    """The share of pairs told right by calling those at a distance below ``threshold`` the same class,
    of distances ``positive`` [P] of pairs that are, and ``negative`` [Q] of pairs that are not."""
    right = (positive < threshold).sum() + (negative >= threshold).sum()
    return float(right / (len(positive) + len(negative)))


def best_threshold(positive: np.ndarray, negative: np.ndarray) -> float:
    """The distance with the greatest :func:`accuracy`, half way between two distances that are found;
    the least such.

    Raises:
        ValueError: without any pair.
    """
    if not len(positive) + len(negative):
        raise ValueError("a threshold needs pairs, found none")
    distances, place = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    gain = np.bincount(place, np.repeat([1.0, -1.0], [len(positive), len(negative)]), len(distances))
    best = int(np.concatenate([[0], gain.cumsum()]).argmax())  # so many of the distances are below it
    if best == 0:
        return float(distances[0])
    if best == len(distances):
        return float(np.nextafter(distances[-1], np.inf))
    middle = (distances[best - 1] + distances[best]) / 2
    return float(middle if middle > distances[best - 1] else distances[best])


def verification_of_all_pairs(embeddings: np.ndarray, labels: np.ndarray) -> Values:
    """Measure ``embeddings`` [N, D] of classes ``labels`` [N] on all N(N-1)/2 pairs; see
    :meth:`PairCounts.values`.

    Raises:
        ValueError: see :func:`siamese.evaluation.pairs.rows`.
    """
    prepared = rows(embeddings, labels)
    counts = PairCounts(prepared)
    sweep(prepared.unit, [counts])
    return counts.values()


class PairCounts:
    """All pairs of images, counted by class and distance (a consumer of distances).

    Attributes:
        positive, negative: int64 [BINS], pairs of the same class and of different ones, nearest first.
        euclid: the sum of the Euclidean distances of each.
    """

    def __init__(self, prepared: Rows) -> None:
        self.rows = prepared
        self.positive = np.zeros(BINS, dtype=np.int64)
        self.negative = np.zeros(BINS, dtype=np.int64)
        self.euclid = {"positive": 0.0, "negative": 0.0}

    def add(self, start: int, squared: Tensor) -> None:
        length = len(squared)
        upper = squared[:, start:].clone(
            memory_format=torch.contiguous_format
        )  # every pair once: later columns than the row's own
        bins = (upper.view(torch.int32) >> SHIFT) - FIRST_BIN
        upper.sqrt_()[:, :length].triu_(1)
        everything = upper.sum(dtype=torch.float64).item()
        same = 0.0
        for here, columns in self.rows.segments(start, start + length):
            own = slice(max(0, columns.start - start), columns.stop - start)
            bins[here, own] += BINS
            same += upper[here, own].sum(dtype=torch.float64).item()
        below = torch.ones(length, length, dtype=torch.bool).tril_()
        bins[:, :length][below] = 2 * BINS
        counts = torch.bincount(bins.view(-1), minlength=2 * BINS + 1).numpy()
        self.negative += counts[:BINS]
        self.positive += counts[BINS : 2 * BINS]
        self.euclid["positive"] += same
        self.euclid["negative"] += everything - same

    def values(self) -> Values:
        """The measures of :func:`verification` and :func:`error_rates` under ``pairs_*``.

        Distances in one bin count as ties. The AUC is then at most half the share of pairs of one kind
        times that of the other, summed over the bins, from the exact one; it is exact for distances
        that differ by more than a bin.
        """
        positives, negatives = int(self.positive.sum()), int(self.negative.sum())
        if not positives or not negatives:
            return undefined(PAIRS_NAMES, _missing(positives))
        tpr = np.concatenate([[0], self.positive.cumsum()]) / positives
        fpr = np.concatenate([[0], self.negative.cumsum()]) / negatives
        cosines = self._cosines(positives, negatives)
        values: Values = {"auc": float(np.trapezoid(tpr, fpr)), **error_rates(fpr, tpr, negatives)}
        values |= {"cos_positive": cosines[0], "cos_negative": cosines[1]}
        values["euclid_positive"] = self.euclid["positive"] / positives
        values["euclid_negative"] = self.euclid["negative"] / negatives
        return {name: values[name.removeprefix("pairs_")] for name in PAIRS_NAMES}

    def _cosines(self, positives: int, negatives: int) -> tuple[float, float]:
        """The mean cosine of each kind of pair, from the sums of the unit vectors of each class."""
        unit = self.rows.unit.numpy()
        sums = np.add.reduceat(unit, self.rows.starts[:-1])
        same = (np.square(sums).sum() - len(unit)) / 2
        everything = (np.square(sums.sum(0)).sum() - len(unit)) / 2
        return float(same / positives), float((everything - same) / negatives)

    def histogram(self) -> dict[str, np.ndarray]:
        """``positive`` and ``negative`` pairs, int64 [128], by cosine between ``edges`` [129] from -1 to
        1; an edge belongs to the bin below it."""
        edges = 1 - np.arange(HISTOGRAM_BINS + 1) * 2 / HISTOGRAM_BINS
        squared = (2 - 2 * edges).astype(np.float32)
        first = np.maximum((squared.view(np.int32) >> SHIFT) - FIRST_BIN, 0)
        first[-1] = BINS  # the last bin holds the opposite pairs too
        edges = edges[::-1].copy()
        counted = {}
        for name, counts in (("positive", self.positive), ("negative", self.negative)):
            below = np.concatenate([[0], counts.cumsum()])
            counted[name] = np.diff(below[first])[::-1].copy()
        return {"edges": edges, **counted}


def _missing(positives: int) -> str:
    return "no class has two images" if not positives else "there is one class only"


def _cosines(embeddings: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor]:
    z = nn.functional.normalize(embeddings.double(), dim=1)
    a, p, n = z[triplets[:, 0]], z[triplets[:, 1]], z[triplets[:, 2]]
    return (a * p).sum(1).clamp(-1, 1), (a * n).sum(1).clamp(-1, 1)


def _scores(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in [0, 1], as torchmetrics takes them without squashing, and what they should be. In
    float32, so that equal cosines are ties whatever their last bits."""
    scores = (1 + torch.cat([positive, negative]).float()) / 2
    return scores, torch.cat([torch.ones_like(positive), torch.zeros_like(negative)]).long()


def _euclid(cosine: Tensor) -> Tensor:
    return (2 - 2 * cosine).clamp(min=0).sqrt()
