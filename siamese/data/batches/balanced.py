"""Batches of as many images of each of some classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.kind import Kind, Segment, Training
from siamese.data.draws import generator
from siamese.data.images import NO_CLASS
from siamese.data.tuples import classes_of
from siamese.errors import ConfigError


class Balanced(Kind):
    """``images_per_class`` images of each of ``data.batch_size / images_per_class`` classes. A loss gets None, since
    the labels say it all."""

    form, item = "balanced", "class_groups"
    finds_tuples = True

    def __init__(self, images_per_class: int = 8) -> None:
        self.images = self.counted = images_per_class

    def check(self, counts: np.ndarray, names: Sequence[str], batch_items: int, asked: str) -> None:
        if counts.min() < self.images:
            smallest = names[int(counts.argmin())]
            raise ConfigError(
                f"batches.images_per_class={self.images}: class {smallest!r} has only {counts.min()} training images"
            )
        if batch_items > len(names):
            raise ConfigError(
                f"{asked}: with batches.images_per_class={self.images} a micro-batch holds {batch_items} classes; "
                f"expected at most the {len(names)} there are"
            )

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        return class_groups(training.labels, self.images, generator(training.seed, "class groups", epoch))

    def tuples(self, labels: Tensor) -> Tuples:
        return None

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        return one_group_a_class(self, labels, seed, part)


def one_group_a_class(kind: Kind, labels: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
    """Batches of one group of each class, as large as those that ``kind`` trains on where all classes have as many
    images: what :meth:`Kind.measured` of groups is. A class of a single image is in none."""
    of_class, counts = np.unique(labels, return_counts=True)
    paired = np.flatnonzero(np.isin(labels, of_class[(counts > 1) & (of_class != NO_CLASS)]))
    size = min(kind.images, int(counts[counts > 1].min()))
    drawn = class_groups(labels[paired], size, generator(seed, f"{part} class groups"))
    groups = torch.from_numpy(paired[drawn])
    rows = groups.view(-1, len(np.unique(labels[paired])), size).transpose(1, 2)
    return [(r.reshape(-1), kind.tuples(torch.from_numpy(labels)[r])) for r in rows]


def class_groups(labels: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Groups [T, size] of positions in ``labels``, each of ``size`` different images of one class.

    The groups come in rounds of one group a class, as many rounds as let an epoch see about
    ``len(labels)`` images. No image comes twice before every other of its class came once (less the
    few that fill no group). Any p < C groups in a row are of p different classes, C being the
    number of classes, and so are any C from a multiple of C on: the order need not know how many
    groups a micro-batch takes. Every class needs ``size`` images.
    """
    classes = classes_of(labels)
    rounds = max(1, len(labels) // (size * len(classes)))
    groups = np.stack([_groups(members, size, rounds, random) for members in classes])
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
