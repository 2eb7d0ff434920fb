"""How far a single measurement can be trusted: bootstrap intervals of the measures that are means over queries, and of
the AUC of triplets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from siamese.evaluation.verification import Triplets

LEVEL = 0.95
LEAST = 5  # units; of fewer there are hardly any other draws
ENTRIES = 1 << 22  # weights held at a time

Interval = tuple[float, float]


def of_means(values: Mapping[str, np.ndarray], units: np.ndarray, resamples: int) -> dict[str, Interval]:
    """95 % intervals of the means of ``values``, each [Q], by resampling ``units`` [Q] with replacement (the percentile
    bootstrap, Efron and Tibshirani 1993, section 13.3): of values that belong to one unit, all are drawn or none.

    A unit is a class where a part's classes are those of no other, for then other classes could have been drawn; else
    it is an image. Fewer than five units give none.
    """
    codes, count = _codes(units)
    if count < LEAST or not resamples:
        return {}
    sums = np.stack([np.bincount(codes, one, count) for one in (np.ones(len(codes)), *values.values())], axis=1)
    drawn = np.concatenate([weights @ sums for weights in _weights(count, resamples)])
    means = drawn[:, 1:] / drawn[:, :1]
    return {name: _interval(means[:, i]) for i, name in enumerate(values)}


def of_triplets(triplets: Triplets, units: np.ndarray, resamples: int) -> dict[str, Interval]:
    """The same of the ``auc`` and ``good_triplets`` of T ``triplets``, whose anchors are of ``units`` [T]."""
    codes, count = _codes(units)
    if count < LEAST or not resamples:
        return {}
    nearest = np.argsort(triplets.positive, kind="stable")
    # Of the positives, by rising distance, how many are nearer than each negative, and how many no farther.
    before = np.searchsorted(triplets.positive[nearest], triplets.negative, "left")
    until = np.searchsorted(triplets.positive[nearest], triplets.negative, "right")
    good, found = (triplets.positive < triplets.negative).astype(float), []
    for weights in _weights(count, resamples, per=len(codes)):
        drawn = weights[:, codes]
        sums = np.zeros((len(weights), len(codes) + 1))
        np.cumsum(weights[:, codes[nearest]], axis=1, out=sums[:, 1:])
        total = sums[:, -1]  # of positives, and of negatives
        area = np.einsum("bt,bt->b", drawn, sums[:, before] + sums[:, until]) / (2 * total**2)
        found.append(np.stack([area, drawn @ good / total], axis=1))
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
