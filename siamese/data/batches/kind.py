"""What every kind of batches says of itself, and what it draws from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from siamese.config.data import Data
from siamese.data.batch import Layout, Tuples
from siamese.data.draws import generator
from siamese.data.images import NO_CLASS
from siamese.data.tuples import draw_triplets
from siamese.errors import ConfigError

MEASURED = 64  # triplets or pairs that a loss is measured on at a time


class Training(NamedTuple):
    """What the items of an epoch are drawn from.

    Attributes:
        labels: int64 [n], of the training images; an item holds positions among them.
        fixed: int64 [T, K], the items that are the same in every epoch; None where they are drawn for each.
        data: the configuration of the data.
        seed: every draw is a function of it and of the place it is for.
    """

    labels: np.ndarray
    fixed: np.ndarray | None
    data: Data
    seed: int


class Segment(NamedTuple):
    """A run of micro-batches that are drawn at once: all of an epoch, or a part of it.

    Attributes:
        number: 0 for the first of the epoch.
        batches: how many micro-batches it has.
        batch_items: items in each of them.
        embed: embeds the training images with the network as it is now, float32 [n, D].
    """

    number: int
    batches: int
    batch_items: int
    embed: Callable[[], np.ndarray]


class Kind(ABC):
    """What a micro-batch holds: what an item is, how an epoch of them is drawn, what a loss is told of a batch, and
    on what a loss is measured when nothing is trained.

    Attributes:
        form: what a loss that lists the batches that it can use calls this kind.
        item: what the items are called.
        unit: what ``data.batch_size`` counts.
        images: K, how many images an item has.
        counted: how many of ``unit`` an item is.
        segments: into how many parts an epoch is cut, each drawn when its first micro-batch is wanted.
        has_roles: whether the images of an item are anchor, positive and negative.
        verifies_pairs: whether a run is measured on the pairs of its images too.
        finds_tuples: whether a loss is told of no tuples, and finds them by the labels.
        joins_items: whether a loss is told of tuples that join images of different items.
        follows_network: whether the items depend on what the network makes of the images.
        several_classes: whether no image is told as a negative of another that it shares one of several classes with.
        needs_classes: whether its items cannot be formed of images without a class.
    """

    form: ClassVar[str]
    item: ClassVar[str]
    unit: ClassVar[str] = "images"
    has_roles: ClassVar[bool] = False
    verifies_pairs: ClassVar[bool] = False
    finds_tuples: ClassVar[bool] = False
    joins_items: ClassVar[bool] = False
    follows_network: ClassVar[bool] = False
    several_classes: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = True
    images: int = 1
    counted: int = 1
    segments: int = 1

    @property
    def tuples_span_batch(self) -> bool:
        """Whether the tuples are those that the batch as a whole has, not drawn one by one."""
        return self.finds_tuples or self.joins_items

    @property
    def layout(self) -> Layout:
        return Layout(self.images, self.tuples)

    def check(self, counts: np.ndarray, names: Sequence[str], batch_items: int, asked: str) -> None:  # noqa: B027
        """Refuse what this kind cannot be drawn from.

        Args:
            counts: training images of each class that has some, and ``names`` of these classes.
            batch_items: items in a micro-batch.
            asked: the key and value that ask for so many.

        Raises:
            ConfigError: naming the class or the count.
        """

    def check_classes(self, labels: np.ndarray, more_labels: np.ndarray | None) -> None:
        """Refuse images of no class, or of several, that this kind cannot be right for.

        Args:
            labels: int64 [n], of the training images.
            more_labels: int64 [M, 2], (image, label) of the other classes of an image.

        Raises:
            ConfigError: naming the kinds that can.
        """
        if self.needs_classes and (labels == NO_CLASS).all():
            raise ConfigError(
                f"batches={self.form}: the training images have no classes; expected batches=views, which needs none"
            )
        if more_labels is not None and not self.several_classes:
            raise ConfigError(
                f"batches={self.form}: {len(np.unique(more_labels[:, 0])):,} images have several classes, and a loss "
                "that finds tuples by the labels knows one of each; expected batches=triplets, pairs or views"
            )

    def fixed(self, labels: np.ndarray, data: Data, seed: int) -> np.ndarray | None:
        """The items [T, K] that are the same in every epoch, positions in ``labels`` [n]; None where none are."""
        return None

    def length(self, training: Training) -> int:
        """How many items an epoch has."""
        nowhere = Segment(0, 0, 0, lambda: np.empty((0, 0), np.float32))
        return len(self.items(training, 0, nowhere))

    @abstractmethod
    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        """The items [T, K] of ``segment`` of ``epoch`` in their order, positions among the training images."""

    @abstractmethod
    def tuples(self, labels: Tensor) -> Tuples:
        """What a loss is told of a micro-batch besides its labels, in pytorch-metric-learning's convention.

        Args:
            labels: int64 [K, B], the class of image k of item b, whose position in the batch is k·B + b.
        """

    @abstractmethod
    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        """What the loss of ``part`` is the mean over: batches of rows, and the tuples among them as in training.

        Neither depends on ``data.batch_size``, so that runs compare.

        Args:
            labels: int64 [n], of the images of the part.
            triplets: the fixed triplets [T, 3] of the part, positions in ``labels``.
        """


class Formed(Kind):
    """Items that are formed as ``data.triplets`` says: of consecutive images, drawn once, or drawn for each epoch."""

    several_classes = True

    @abstractmethod
    def of_triplets(self, triplets: np.ndarray) -> np.ndarray:
        """The items [T, K] that drawn ``triplets`` [T, 3] stand for."""

    @abstractmethod
    def of_consecutive(self, labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
        """The items [T, K] of consecutive images of ``labels`` [n], at most ``per_class`` of each class."""

    def fixed(self, labels: np.ndarray, data: Data, seed: int) -> np.ndarray | None:
        if data.triplets == "resampled":
            return None
        if data.triplets == "fixed":
            return self.of_triplets(drawn_triplets(labels, data.negatives_per_class, seed, "train"))
        return self.of_consecutive(labels, data.negatives_per_class, seed)

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        items = training.fixed
        if items is None:
            per_class = training.data.negatives_per_class
            items = self.of_triplets(drawn_triplets(training.labels, per_class, training.seed, "train", epoch))
        return shuffled(items, training, epoch)


def shuffled(items: np.ndarray, training: Training, epoch: int) -> np.ndarray:
    """``items`` [T, K] in the order of ``epoch``."""
    return items[generator(training.seed, "order", epoch).permutation(len(items))]


def drawn_triplets(labels: np.ndarray, per_class: int | None, seed: int, part: str, *place: int) -> np.ndarray:
    """:func:`draw_triplets` as ``seed`` has it for a part of the data, at an epoch where one is given."""
    return draw_triplets(labels, per_class, generator(seed, f"{part} triplets", *place))


def spaced(triplets: np.ndarray) -> list[tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]:
    """``triplets`` [T, 3] about MEASURED at a time, evenly spaced among all so that every class is in each: the rows
    [3·t] of each batch, and the places of its anchors, positives and negatives."""
    every = torch.from_numpy(triplets)
    batches = -(-len(every) // MEASURED)
    chosen = [every[first::batches].t() for first in range(batches)]
    return [(c.reshape(-1), tuple(torch.arange(c.numel()).view(3, -1))) for c in chosen]
