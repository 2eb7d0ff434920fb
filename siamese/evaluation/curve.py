"""The ROC curve of pairs by their distance, and what is read off it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siamese.evaluation.names import FAR, Undefined, Values


@dataclass(frozen=True)
class Curve:
    """Of pairs by rising distance: what is accepted at each threshold.

    Attributes:
        fpr, tpr: float64 [K + 1], from (0, 0) to (1, 1): the shares that are accepted of the pairs of different
            classes, and of those of the same.
        thresholds: float64 [K + 1], the largest Euclidean distance that is accepted; the first accepts none, and is -1.
        negatives: the number of pairs of different classes.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray
    negatives: int

    @classmethod
    def counted(cls, distances: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> Curve:
        """From the number of ``positive`` and of ``negative`` pairs [K] at each of ``distances`` [K], ascending."""
        fpr = np.concatenate([[0], negative.cumsum()]) / negative.sum()
        tpr = np.concatenate([[0], positive.cumsum()]) / positive.sum()
        return cls(fpr, tpr, np.concatenate([[-1.0], distances]), int(negative.sum()))

    @classmethod
    def of(cls, positive: np.ndarray, negative: np.ndarray) -> Curve:
        """Of pairs at squared distances ``positive`` [P] and ``negative`` [Q]; equal ones are ties."""
        squared, place = np.unique(np.concatenate([positive, negative]), return_inverse=True)
        counts = (np.bincount(of, minlength=len(squared)) for of in (place[: len(positive)], place[len(positive) :]))
        return cls.counted(np.sqrt(squared.astype(np.float64)), *counts)

    @property
    def area(self) -> float:
        """The probability that a pair of the same class is nearer than one of different classes; ties count a half."""
        return float(np.trapezoid(self.tpr, self.fpr))

    def at_equal_error(self) -> int:
        """The first place where as large a share of the negatives is accepted as of the positives is refused."""
        return int(np.searchsorted(self.fpr - (1 - self.tpr), 0))

    def at_rate(self, rate: float) -> int | None:
        """The last place where at most ``rate`` of the negatives is accepted; None where one pair would be more."""
        if self.negatives * rate < 1:
            return None
        return int(np.flatnonzero(np.round(self.fpr * self.negatives) <= rate * self.negatives + 1e-9)[-1])


def error_rates(curve: Curve) -> Values:
    """Two readings of ``curve``.

    Returns:
        eer: the equal error rate, at which as large a share of the negatives is accepted as of the positives is
            refused; on the straight line between two thresholds. tar_at_far_*: the greatest share of the positives
            that is accepted while at most that share of the negatives is; undefined where one pair would be more.
    """
    after = curve.at_equal_error()
    fpr, gap = curve.fpr, curve.fpr - (1 - curve.tpr)
    values: Values
    if gap[after] == 0:
        values = {"eer": float(fpr[after])}
    else:
        share = -gap[after - 1] / (gap[after] - gap[after - 1])
        values = {"eer": float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))}
    for far in FAR:
        place = curve.at_rate(float(far))
        values[f"tar_at_far_{far}"] = _too_few(far, curve) if place is None else float(curve.tpr[place])
    return values


def thresholds(curve: Curve) -> Values:
    """The largest Euclidean distances of unit vectors that are accepted at the equal error rate and at each false
    accept rate, as ``threshold_at_*``; what accepts no pair at all has none."""
    values: Values = {"threshold_at_eer": float(curve.thresholds[max(1, curve.at_equal_error())])}
    for far in FAR:
        place, name = curve.at_rate(float(far)), f"threshold_at_far_{far}"
        if place:
            values[name] = float(curve.thresholds[place])
        else:
            none = Undefined(f"the nearest pairs already have a greater share of errors than {far}")
            values[name] = _too_few(far, curve) if place is None else none
    return values


def _too_few(far: str, curve: Curve) -> Undefined:
    return Undefined(f"it needs {round(1 / float(far))} pairs of different classes, found {curve.negatives}")
