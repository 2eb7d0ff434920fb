"""Micro-batches: index tuples in the order of an epoch, and the augmentation that makes them pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

Tuples = tuple[Tensor, ...] | None


class Batch(NamedTuple):
    """A micro-batch of B items as one batch of N = B·K images: the first image of every item, then
    the second of every item, … (of triplets: anchors, then positives, then negatives).

    Attributes:
        images: int64 [N], indices into the data set; uint8 [N, C, H, W] once on the device.
        labels: int64 [N], classes.
        tuples: see :func:`indices_tuple`; each int64 tensor holds positions in this batch.
        draws: float32 [N, 3] in [0, 1): vertical crop, horizontal crop, flip; None leaves pixels alone.
    """

    images: Tensor
    labels: Tensor
    tuples: Tuples
    draws: Tensor | None


class Epoch(NamedTuple):
    """All that one epoch, or one segment of it, draws, in the order in which it is used.

    Attributes:
        items: int64 [T, K], indices into the data set: the images of each triplet, pair, class
            group, cluster group or pair of views.
        draws: float32 [T, K, 3], for each place, image and kind of augmentation.
    """

    items: Tensor
    draws: Tensor


def indices_tuple(kind: str, labels: Tensor) -> Tuples:
    """What a loss is told of a micro-batch besides labels, in pytorch-metric-learning's convention.

    Args:
        kind: of :class:`siamese.schema.Batches`.
        labels: int64 [K, B], the class of image k of item b, whose position in the batch is k·B + b.

    Returns:
        triplets: ``(a, p, n)``, each [B]. pairs: ``(a1, p, a2, n)``, the pairs of one class and those
        of two. views: ``(a1, p, a2, n)``: every image of either view is an anchor, its other view the
        positive and every view of the other images a negative; the first B of ``(a1, p)`` are view 1
        against view 2. magnet: ``(clusters,)`` [N], for each image the number of its cluster in this
        batch. balanced: None, since the labels say it all.
    """
    roles, count = labels.shape
    places = torch.arange(labels.numel()).view(roles, count)
    if kind == "triplets":
        return tuple(places)
    if kind == "pairs":
        same = labels[0] == labels[1]
        first, second = places
        return first[same], second[same], first[~same], second[~same]
    if kind == "views":
        anchors, instance = places.flatten(), torch.arange(count).repeat(2)
        a2, n = torch.where(instance[:, None] != instance)
        return anchors, anchors.roll(count), a2, n
    if kind == "magnet":
        return (torch.arange(count).repeat(roles),)
    return None


class EpochLoader:
    """Micro-batches of an epoch, in its order, from any of them on.

    Which epoch is handed out, and from which micro-batch on, is asked of ``epoch`` and ``position``
    when the first is wanted. An epoch may come in ``segments``, nearly equal runs of micro-batches;
    ``segment_of(epoch, segment)`` is asked for one when its first micro-batch is wanted.

    Args:
        kind: of :class:`siamese.schema.Batches`.
        items: how many an epoch has.
        labels: int64, of the whole data set.
        batch_size: items in a micro-batch.
        whole: leave out a last micro-batch of fewer items.
    """

    def __init__(
        self,
        kind: str,
        segment_of: Callable[[int, int], Epoch],
        items: int,
        labels: Tensor,
        batch_size: int,
        *,
        whole: bool = False,
        segments: int = 1,
    ) -> None:
        self.kind, self._segment_of, self.items, self._labels = kind, segment_of, items, labels
        self.batch_size, self._whole, self.segments = batch_size, whole, segments
        self.epoch: Callable[[], int] = lambda: 0
        self.position: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return self.items // self.batch_size if self._whole else -(-self.items // self.batch_size)

    @property
    def last(self) -> int:
        """Items in the last micro-batch."""
        return self.batch_size if self._whole else self.items % self.batch_size or self.batch_size

    def segment(self, number: int) -> tuple[int, int]:
        """The first micro-batch of a segment, and the first after it."""
        return number * len(self) // self.segments, (number + 1) * len(self) // self.segments

    def __iter__(self) -> Iterator[Batch]:
        epoch, position = self.epoch(), self.position()
        for segment in range(self.segments):
            start, end = self.segment(segment)
            if position >= end:
                continue
            drawn = self._segment_of(epoch, segment)
            while position < end:
                place = slice((position - start) * self.batch_size, (position - start + 1) * self.batch_size)
                yield self._batch(drawn.items[place], drawn.draws[place])
                position += 1

    def _batch(self, items: Tensor, draws: Tensor) -> Batch:
        index = items.t().reshape(-1)
        labels = self._labels[index]
        tuples = indices_tuple(self.kind, labels.view(items.shape[1], len(items)))
        return Batch(index, labels, tuples, draws.transpose(0, 1).reshape(len(index), -1))


class ImageLoader:
    """Every image of ``index`` once, in order, without tuples or augmentation."""

    def __init__(self, index: Tensor, labels: Tensor, batch_size: int) -> None:
        self._index, self._labels, self._batch_size = index, labels, batch_size

    def __len__(self) -> int:
        return -(-len(self._index) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for index in self._index.split(self._batch_size):
            yield Batch(index, self._labels[index], None, None)


def crop_and_flip(images: Tensor, draws: Tensor, padding: int, flip: bool) -> Tensor:
    """Crop each image at its own offset from a border of ``padding`` black pixels, and mirror it.

    Args:
        images: uint8 [N, C, H, W].
        draws: [N, 3] in [0, 1): the vertical and horizontal offsets, uniform over the 2·padding + 1
            places, and the mirroring, of those below one half.

    Returns:
        uint8 [N, C, H, W].
    """
    n, c, h, w = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    top = (draws[:, 0] * (2 * padding + 1)).long()
    left = (draws[:, 1] * (2 * padding + 1)).long()
    columns = torch.arange(w, device=images.device).expand(n, w)
    if flip:
        columns = torch.where(draws[:, 2:3] < 0.5, w - 1 - columns, columns)
    rows = top[:, None] + torch.arange(h, device=images.device)
    flat = rows[:, :, None] * (w + 2 * padding) + (left[:, None] + columns)[:, None, :]
    return padded.flatten(2).gather(2, flat.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)
