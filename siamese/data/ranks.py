"""The batches of one of several devices that train together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from siamese.data.batches import Batch
from siamese.data.layout import Layout


class Loader(Protocol):
    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


class RankLoader:
    """Of each micro-batch of ``loader`` the items of ``rank``: the ranks' parts are next to each other,
    of nearly equal size, and together the micro-batch."""

    def __init__(self, loader: Loader, layout: Layout, rank: int, ranks: int) -> None:
        self.loader, self.layout, self.rank, self.ranks = loader, layout, rank, ranks

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            count = len(batch.labels) // self.layout.images
            start, end = self.rank * count // self.ranks, (self.rank + 1) * count // self.ranks
            images, labels = (self.layout.items(rows, start, end) for rows in (batch.images, batch.labels))
            draws = None if batch.draws is None else self.layout.items(batch.draws, start, end)
            yield batch._replace(images=images, labels=labels, tuples=self.layout.tuples_of(labels), draws=draws)
