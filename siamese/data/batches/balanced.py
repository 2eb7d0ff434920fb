"""Batches of as many images of each of some classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.groups import class_weights, few_images, groups_of, weighted_groups
from siamese.data.batches.kind import Kind, Segment, Training
from siamese.data.draws import generator
from siamese.data.images import NO_CLASS
from siamese.data.tuples import classes_of
from siamese.errors import ConfigError, several

UNEVEN = 1.5  # times as often that an image may be seen as another before it is said

log = logging.getLogger(__name__)


class Balanced(Kind):
    """``images_per_class`` images of each of ``data.batch_size / images_per_class`` classes. A loss gets None, since
    the labels say it all.

    A class of fewer images is refused, or fills its groups by repeating them, as ``small_classes`` says. An epoch is
    even over the ``weight``: every class has as many groups, or as many as its images (or their square root) are of
    all.
    """

    form, item = "balanced", "class_groups"
    finds_tuples = True

    def __init__(self, images_per_class: int = 8, small_classes: str = "refuse", weight: str = "classes") -> None:
        self.images = self.counted = images_per_class
        self.small_classes, self.weight = small_classes, weight

    def check(self, counts: np.ndarray, names: Sequence[str], batch_items: int, asked: str) -> None:
        small = np.flatnonzero(counts < self.images)
        if len(small) and self.small_classes == "refuse":
            raise ConfigError(
                f"batches.images_per_class={self.images}: {few_images(small, counts, names)}; "
                "expected fewer, or batches.small_classes=repeat"
            )
        if batch_items > len(names):
            raise ConfigError(
                f"{asked}: with batches.images_per_class={self.images} a micro-batch holds {batch_items} classes; "
                f"expected at most the {len(names)} there are"
            )
        weights = class_weights(counts, self.weight)
        large = np.flatnonzero(weights * batch_items > weights.sum())
        if len(large):
            called = several(f"{names[c]!r} ({weights[c] / weights.sum():.1%})" for c in large.tolist())
            raise ConfigError(
                f"batches.weight={self.weight}: a micro-batch of {batch_items} classes holds one group of each at "
                f"most, {1 / batch_items:.1%} of all; {called} would have more; expected a smaller data.batch_size, "
                "or batches.weight=classes"
            )
        self._say_how_often(counts, names, weights)

    def _say_how_often(self, counts: np.ndarray, names: Sequence[str], weights: np.ndarray) -> None:
        """Say so where an image of the smallest class is seen much more often than one of the largest."""
        least, most = int(counts.argmin()), int(counts.argmax())
        groups = weights / weights.sum() * groups_an_epoch(int(counts.sum()), self.images, len(counts), self.weight)
        seen = groups * self.images / counts
        if seen[least] > UNEVEN * seen[most]:
            log.info(
                "batches=balanced: in an epoch an image of the largest class, %r, is seen %.2g times, "
                "one of the smallest, %r, %.2g times (batches.weight=%s)",
                *(names[most], seen[most], names[least], seen[least], self.weight),
            )

    def length(self, training: Training) -> int:
        labels = training.labels
        return groups_an_epoch(len(labels), self.images, len(np.unique(labels)), self.weight)

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        labels, random = training.labels, generator(training.seed, "class groups", epoch)
        if self.weight == "classes":
            return class_groups(labels, self.images, random)
        return weighted_groups(labels, self.images, self.weight, segment.batches, segment.batch_items, random)

    def tuples(self, labels: Tensor) -> Tuples:
        return None

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        return one_group_a_class(self, labels, seed, part)


def groups_an_epoch(images: int, size: int, classes: int, weight: str) -> int:
    """How many groups of ``size`` let an epoch see about ``images``: whole rounds of ``classes`` where all are even."""
    if weight == "classes":
        return classes * max(1, images // (size * classes))
    return max(1, images // size)


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
    """Groups [T, size] of positions in ``labels``, each of one class.

    The groups come in rounds of one group a class, as many rounds as let an epoch see about
    ``len(labels)`` images. No image comes twice before every other of its class came once (less the
    few that fill no group); the groups of a class of fewer than ``size`` images are each of all of
    them, one as often as any other or once more. Any p < C groups in a row are of p different
    classes, C being the number of classes, and so are any C from a multiple of C on: the order need
    not know how many groups a micro-batch takes.
    """
    classes = classes_of(labels)
    rounds = groups_an_epoch(len(labels), size, len(classes), "classes") // len(classes)
    groups = np.stack([groups_of(members, size, rounds, random) for members in classes])
    order = _rounds(len(classes), rounds, random)
    return groups[order, np.arange(rounds)[:, None]].reshape(-1, size)


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
