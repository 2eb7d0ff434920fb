"""How far a single measurement can be trusted: bootstrap intervals of the measures that are means over queries, and of
the AUC of triplets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from siamese.evaluation.verification import Triplets

LEVEL = 0.95
ENTRIES = 1 << 22  # weights held at a time

Interval = tuple[float, float]


def of_means(values: Mapping[str, np.ndarray], units: np.ndarray, resamples: int) -> dict[str, Interval]:
    """95 % intervals of the means of ``values``, each [Q], by resampling ``units`` [Q] with replacement (the percentile
    bootstrap, Efron and Tibshirani 1993, section 13.3): of values that belong to one unit, all are drawn or none.

    A unit is a class where a part's classes are those of no other, for then other classes could have been drawn; else
    it is an image. Fewer than two units give none.
    """
    codes, count = _codes(units)
    if count < 2 or not resamples:
        return {}
    sums = np.stack([np.bincount(codes, one, count) for one in (np.ones(len(codes)), *values.values())], axis=1)
    drawn = np.concatenate([weights @ sums for weights in _weights(count, resamples)])
    means = drawn[:, 1:] / drawn[:, :1]
    return {name: _interval(means[:, i]) for i, name in enumerate(values)}


def of_triplets(triplets: Triplets, units: np.ndarray, resamples: int) -> dict[str, Interval]:
    """The same of the ``auc`` and ``good_triplets`` of T ``triplets``, whose anchors are of ``units`` [T]."""
    codes, count = _codes(units)
    if count < 2 or not resamples:
        return {}
    squared = np.concatenate([triplets.positive, triplets.negative])
    order = np.argsort(squared, kind="stable")
    firsts = np.flatnonzero(np.concatenate([[True], np.diff(squared[order]) != 0]))  # of equal distances
    positive, owner = order < len(codes), np.concatenate([codes, codes])[order]
    good, found = (triplets.positive < triplets.negative).astype(float), []
    for weights in _weights(count, resamples, per=2 * len(codes)):
        drawn = weights[:, owner]
        near, far = (np.add.reduceat(drawn * kind, firsts, axis=1) for kind in (positive, ~positive))
        total = near.sum(1)  # as many of the one as of the other
        area = ((near.cumsum(1) - near / 2) * far).sum(1) / total**2
        found.append(np.stack([area, (weights[:, codes] * good).sum(1) / total], axis=1))
    both = np.concatenate(found)
    return {"auc": _interval(both[:, 0]), "good_triplets": _interval(both[:, 1])}


def _codes(units: np.ndarray) -> tuple[np.ndarray, int]:
    present, codes = np.unique(units, return_inverse=True)
    return codes, len(present)


def _weights(count: int, resamples: int, per: int = 1) -> Iterator[np.ndarray]:
    """How often each of ``count`` units is drawn, float64 [b, count], until there are so many ``resamples``."""
    random = np.random.default_rng(0)
    size = max(1, ENTRIES // max(count, per))
    for start in range(0, resamples, size):
        some = min(size, resamples - start)
        drawn = random.integers(0, count, (some, count)) + np.arange(some)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def _interval(means: np.ndarray) -> Interval:
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
