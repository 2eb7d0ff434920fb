"""Groups of images of one class: of the images of a class, and of the classes of an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from siamese.data.tuples import classes_of
from siamese.errors import several

PRECISION = 2**16  # of a square root as a whole number, so that no share is rounded twice


def few_images(small: np.ndarray, counts: np.ndarray, names: Sequence[str]) -> str:
    """That classes ``small`` have too few of their ``counts`` images."""
    if len(small) == 1:
        return f"class {names[small[0]]!r} has only {counts[small[0]]} training images"
    return f"{len(small):,} classes have fewer training images, " + several(
        f"{names[c]!r} {counts[c]}" for c in small.tolist()
    )


def groups_of(members: np.ndarray, size: int, count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` groups [count, size] of ``members``, which are used up again and again; of fewer than ``size`` members
    each group holds all, one as often as any other or once more."""
    if len(members) < size or not count:
        return np.array([repeated(members, size, random) for _ in range(count)], np.int64).reshape(-1, size)
    a_pass = len(members) // size
    passes = [random.permutation(members)[: a_pass * size] for _ in range(-(-count // a_pass))]
    return np.concatenate(passes).reshape(-1, size)[:count]


def repeated(members: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """``size`` of ``members`` in a random order, none a second time before all came once."""
    rounds = [random.permutation(members) for _ in range(-(-size // len(members)))]
    return np.concatenate(rounds)[:size]


def class_weights(counts: np.ndarray, weight: str) -> np.ndarray:
    """What share of an epoch's groups each class has, int64 [C], of classes with so many images."""
    if weight == "classes":
        return np.ones(len(counts), np.int64)
    return counts if weight == "images" else np.rint(np.sqrt(counts) * PRECISION).astype(np.int64)


def weighted_groups(
    labels: np.ndarray, size: int, weight: str, batches: int, batch_groups: int, random: np.random.Generator
) -> np.ndarray:
    """Groups [batches · batch_groups, size] of positions in ``labels``, each of one class, those of a micro-batch of
    different classes. A class has its share of the groups, rounded up or down at random so that its mean is exact;
    none may have more than ``batches``."""
    members = classes_of(labels)
    weights = class_weights(np.array([len(m) for m in members]), weight)
    chosen = classes_of_batches(weights, batches, batch_groups, random).reshape(-1)
    counts = np.bincount(chosen, minlength=len(members))
    groups = np.empty((len(chosen), size), np.int64)
    of_class = [groups_of(m, size, count, random) for m, count in zip(members, counts.tolist(), strict=True)]
    groups[np.argsort(chosen, kind="stable")] = np.concatenate(of_class)
    return groups


def classes_of_batches(weights: np.ndarray, batches: int, batch_groups: int, random: np.random.Generator) -> np.ndarray:
    """The different classes of each micro-batch, int64 [batches, batch_groups], in proportion to ``weights`` [C]."""
    drawn = _spread(weights * (batches * batch_groups), int(weights.sum()), random)
    left = np.bincount(drawn, minlength=len(weights))
    chosen = np.empty((batches, batch_groups), np.int64)
    for batch in range(batches):
        # Each class has at most one of the points, and one with a group left for every batch has one for certain.
        chosen[batch] = _spread(left, batches - batch, random)
        left[chosen[batch]] -= 1
    return chosen


def _spread(lengths: np.ndarray, period: int, random: np.random.Generator) -> np.ndarray:
    """On which of the intervals of whole ``lengths`` [C], laid end to end in a random order, points fall that are one
    ``period`` apart from a random first: systematic sampling, by which interval c has ``lengths[c] / period`` points
    in the mean, and never a whole one more or fewer. Their sum is to be a multiple of ``period``."""
    order = random.permutation(len(lengths))
    ends = np.cumsum(lengths[order])
    points = np.arange(random.integers(period), ends[-1], period)
    return order[np.searchsorted(ends, points, side="right")]
