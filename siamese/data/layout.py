"""Where the images of an item (a triplet, a pair, …) lie in a batch, and batches put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from siamese.data.batches import Tuples


class Layout(NamedTuple):
    """A batch of B items of K images each: image k of item b at place k·B + b.

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
