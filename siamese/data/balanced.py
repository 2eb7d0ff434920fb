"""Class groups: m images of one class each, in an order in which neighbours are of different classes."""

from __future__ import annotations

import numpy as np


def class_groups(labels: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Groups [T, size] of positions in ``labels``, each of ``size`` different images of one class.

    The groups come in rounds of one group a class, as many rounds as let an epoch see about
    ``len(labels)`` images. No image comes twice before every other of its class came once (less the
    few that fill no group). Any p < C groups in a row are of p different classes, C being the
    number of classes, and so are any C from a multiple of C on: the order need not know how many
    groups a micro-batch takes. Every class needs ``size`` images.
    """
    classes = np.unique(labels)
    rounds = max(1, len(labels) // (size * len(classes)))
    groups = np.stack([_groups(np.flatnonzero(labels == label), size, rounds, random) for label in classes])
    order = _rounds(len(classes), rounds, random)
    return groups[order, np.arange(rounds)[:, None]].reshape(-1, size)


def _groups(members: np.ndarray, size: int, count: int, random: np.random.Generator) -> np.ndarray:
    """``count`` groups [count, size] of ``members``, which are used up again and again."""
    a_pass = len(members) // size
    passes = [random.permutation(members)[: a_pass * size] for _ in range(-(-count // a_pass))]
    return np.concatenate(passes).reshape(-1, size)[:count]


def _rounds(classes: int, count: int, random: np.random.Generator) -> np.ndarray:
    """The order of ``classes`` in each of ``count`` rounds, [count, classes]. A round is the one before
    it with some neighbours exchanged, so that a class never comes again before C − 1 places."""
    order = random.permutation(classes)
    rounds = []
    for first in random.integers(2, size=count):
        rounds.append(order.copy())
        left = np.arange(first, classes - 1, 2)
        left = left[random.random(len(left)) < 0.5]
        order[left], order[left + 1] = order[left + 1], order[left]
    return np.stack(rounds)
