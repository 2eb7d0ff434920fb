"""Micro-batches in the order of an epoch, from any of them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor

from siamese.data.batch import Batch, Epoch, Layout
from siamese.errors import ConfigError


class Loader(Protocol):
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class EpochLoader:
    """Micro-batches of an epoch, in its order, from any of them on.

    Which epoch is handed out, and from which micro-batch on, is asked of ``epoch`` and ``position``
    when the first is wanted. An epoch may come in ``segments``, nearly equal runs of micro-batches;
    ``segment_of(epoch, segment)`` is asked for one when its first micro-batch is wanted.

    Args:
        layout: of the items in a micro-batch.
        items: how many an epoch has.
        labels: int64, of the whole data set.
        batch_size: items in a micro-batch.
        whole: leave out a last micro-batch of fewer items.
    """

    def __init__(
        self,
        layout: Layout,
        segment_of: Callable[[int, int], Epoch],
        items: int,
        labels: Tensor,
        batch_size: int,
        *,
        whole: bool = False,
        segments: int = 1,
    ) -> None:
        self.layout, self._segment_of, self.items, self._labels = layout, segment_of, items, labels
        self.batch_size, self._whole, self.segments = batch_size, whole, segments
        self.epoch: Callable[[], int] = lambda: 0
        self.position: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return self.items // self.batch_size if self._whole else -(-self.items // self.batch_size)

    @property
    def last(self) -> int:
        """Items in the last micro-batch."""
        return self.batch_size if self._whole else self.items % self.batch_size or self.batch_size

    def check(self, item: str, batch_size: int, devices: int) -> None:
        """Refuse a micro-batch with nothing for one of the ``devices``, and an epoch of fewer of them than segments.

        Raises:
            ConfigError: naming ``batch_size`` of each device, and what an ``item`` is called.
        """
        if self.last < devices:
            raise ConfigError(
                f"data.batch_size={batch_size}: the last micro-batch of an epoch has {self.last} {item}, fewer than "
                f"device.devices={devices}"
            )
        if len(self) < self.segments:
            raise ConfigError(f"batches.refreshes={self.segments}: an epoch has only {len(self)} micro-batches")

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
        tuples = self.layout.tuples(labels.view(items.shape[1], len(items)))
        return Batch(index, labels, tuples, draws.transpose(0, 1).reshape(len(index), -1))


class RankLoader:
    """Of each micro-batch of ``loader`` the items of one of several devices that train together: the parts of all
    ``ranks`` follow each other, are of nearly equal size, and are together the micro-batch."""

    def __init__(self, loader: Loader, layout: Layout, rank: int, ranks: int) -> None:
        self.loader, self.layout, self.rank, self.ranks = loader, layout, rank, ranks

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            count = len(batch.labels) // self.layout.images
            yield self.layout.cut(batch, self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks)


class ImageLoader:
    """Every image of ``index`` once, in order, without tuples or augmentation; then, where there are draws for their
    ``views``, float32 [n, D], every image once more, augmented by them."""

    def __init__(self, index: Tensor, labels: Tensor, batch_size: int, views: Tensor | None = None) -> None:
        self._index, self._labels, self._batch_size, self._views = index, labels, batch_size, views

    def __len__(self) -> int:
        return -(-len(self._index) // self._batch_size) * (1 if self._views is None else 2)

    def __iter__(self) -> Iterator[Batch]:
        for index in self._index.split(self._batch_size):
            yield Batch(index, self._labels[index], None, None)
        if self._views is not None:
            for index, draws in zip(
                self._index.split(self._batch_size), self._views.split(self._batch_size), strict=True
            ):
                yield Batch(index, self._labels[index], None, draws)
