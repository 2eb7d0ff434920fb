"""A micro-batch: the images of its items, and what a loss is told of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        tuples: the ``indices_tuple`` of a loss (see :meth:`siamese.data.batches.Kind.tuples`); each int64 tensor
            holds positions in this batch.
        draws: float32 [N, D] in [0, 1), those that the augmentation takes for an image; None leaves pixels alone.
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
        draws: float32 [T, K, D], what the augmentation of each place and image follows from.
    """

    items: Tensor
    draws: Tensor


class Layout(NamedTuple):
    """Where the images of an item lie in a batch of B items of K images each: image k of item b at place k·B + b.

    Attributes:
        images: K, how many images an item has.
        tuples: from the labels int64 [K, B] to the ``indices_tuple`` of such a batch.
    """

    images: int
    tuples: Callable[[Tensor], Tuples]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The rows of the batch that has the items of all ``parts`` (each [K·B_i, ...]), in their order."""
        return torch.cat([part.unflatten(0, (self.images, -1)) for part in parts], dim=1).flatten(0, 1)

    def items(self, rows: Tensor, start: int, end: int) -> Tensor:
        """The rows [K·(end − start), ...] of items ``start`` to ``end`` of a batch's ``rows`` [K·B, ...]."""
        return rows.unflatten(0, (self.images, -1))[:, start:end].flatten(0, 1)

    def tuples_of(self, labels: Tensor) -> Tuples:
        """The ``indices_tuple`` of a batch with ``labels`` [K·B], on their device."""
        tuples = self.tuples(labels.cpu().unflatten(0, (self.images, -1)))
        return None if tuples is None else tuple(index.to(labels.device) for index in tuples)

    def cut(self, batch: Batch, start: int, end: int) -> Batch:
        """Items ``start`` to ``end`` of ``batch`` as a batch of their own."""
        images, labels = (self.items(rows, start, end) for rows in (batch.images, batch.labels))
        draws = None if batch.draws is None else self.items(batch.draws, start, end)
        return Batch(images, labels, self.tuples_of(labels), draws)
