"""How far a single measurement can be trusted: bootstrap intervals of the measures that are means over queries, and of
the AUC of triplets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from siamese.evaluation.verification import Triplets

LEVEL = 0.95
LEAST = 5  # units; of fewer there are hardly any other draws
ENTRIES = 1 << 22  # numbers held at a time: weights, or pairs that are counted
PIECE = 32  # triplets' distances, of which all pairs are looked at

Interval = tuple[float, float]
Area = Callable[[np.ndarray], np.ndarray]  # of weights [b, U]: of positives and negatives so drawn, the pairs in order


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
    anchors = np.bincount(codes, minlength=count).astype(np.float64)
    good = np.bincount(codes, triplets.positive < triplets.negative, count)
    few, found = max(count, 2 * len(codes) // PIECE) * max(count, PIECE**2) <= ENTRIES, []
    area = _of_units(triplets, codes, count) if few else _of_anchors(triplets, codes)
    for weights in _weights(count, resamples, per=count if few else len(codes)):
        total = weights @ anchors  # of positives, and of negatives
        found.append(np.stack([area(weights) / total**2, weights @ good / total], axis=1))
    both = np.concatenate(found)
    return {"auc": _interval(both[:, 0]), "good_triplets": _interval(both[:, 1])}


def _of_anchors(triplets: Triplets, codes: np.ndarray) -> Area:
    """By adding up, for every draw, the positives in the order of their distances."""
    nearest = np.argsort(triplets.positive, kind="stable")
    # Of the positives, by rising distance, how many are nearer than each negative, and how many no farther.
    before = np.searchsorted(triplets.positive[nearest], triplets.negative, "left")
    until = np.searchsorted(triplets.positive[nearest], triplets.negative, "right")

    def area(weights: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(weights), len(codes) + 1))
        np.cumsum(weights[:, codes[nearest]], axis=1, out=sums[:, 1:])
        return np.einsum("bt,bt->b", weights[:, codes], sums[:, before] + sums[:, until]) / 2

    return area


def _of_units(triplets: Triplets, codes: np.ndarray, count: int) -> Area:
    """By counting once, of the positives of each unit and the negatives of each, in how many pairs the positive is
    nearer, ties one half: a quadratic form of the weights."""
    distances = np.concatenate([triplets.positive, triplets.negative])
    negative, units = np.repeat([False, True], len(codes)), np.tile(codes, 2)
    pairs = np.zeros((count, count))
    for last in (negative, ~negative):  # of a tie, negatives and then positives
        order = np.lexsort((last, distances))
        pairs += _before(units[order], negative[order], count) / 2
    return lambda weights: np.einsum("bu,bu->b", weights @ pairs, weights)


def _before(units: np.ndarray, negative: np.ndarray, count: int) -> np.ndarray:
    """How many positives of unit u stand before how many negatives of unit v in a list of both, of ``units`` [L] and
    ``negative`` or not, bool [L]: pairs, float64 [count, count].

    It is cut into pieces: what is in an earlier one stands before, and in one each pair is looked at."""
    piece = np.arange(len(units)) // PIECE
    size = (piece[-1] + 1) * count
    held = (np.bincount((piece * count + units)[of], minlength=size) for of in (~negative, negative))
    positives, negatives = (of.reshape(-1, count).astype(np.float64) for of in held)
    i, j = np.triu_indices(PIECE, 1)
    one, other = (np.arange(piece[-1] + 1)[:, None] * PIECE + of for of in (i, j))
    chosen = other < len(units)
    one, other = one[chosen], other[chosen]
    chosen = ~negative[one] & negative[other]
    inside = np.bincount(units[one[chosen]] * count + units[other[chosen]], minlength=count * count)
    return (positives.cumsum(0) - positives).T @ negatives + inside.reshape(count, count)


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
