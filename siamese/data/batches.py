"""Micro-batches of index tuples, and the augmentation that turns them into pixels on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """A micro-batch of B triplets as one batch of 3B images: anchors, then positives, then negatives.

    Attributes:
        images: int64 [3B], indices into the data set; uint8 [3B, C, H, W] once on the device.
        labels: int64 [3B].
        tuples: ``(a, p, n)``, each int64 [B], positions in this batch.
        draws: float32 [3B, 3] in [0, 1): vertical crop, horizontal crop, flip; None leaves pixels alone.
    """

    images: Tensor
    labels: Tensor
    tuples: tuple[Tensor, ...] | None
    draws: Tensor | None


class Epoch(NamedTuple):
    """All that one epoch draws, in the order in which it is used.

    Attributes:
        triplets: int64 [T, 3], indices into the data set.
        draws: float32 [T, 3, 3], for each place, role and kind of augmentation.
    """

    triplets: Tensor
    draws: Tensor


class TripletLoader:
    """Micro-batches of an epoch, in its order, from any of them on.

    The order and the draws are those of the epoch, whatever the batch size. Which epoch is handed
    out, and from which micro-batch on, is asked of ``epoch`` and ``position`` when the first is wanted.
    """

    def __init__(self, epoch_of: Callable[[int], Epoch], triplets: int, labels: Tensor, batch_size: int) -> None:
        self._epoch_of, self.triplets, self._labels = epoch_of, triplets, labels
        self.batch_size = batch_size
        self.epoch: Callable[[], int] = lambda: 0
        self.position: Callable[[], int] = lambda: 0

    def __len__(self) -> int:
        return -(-self.triplets // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self._epoch_of(self.epoch())
        for position in range(self.position(), len(self)):
            place = slice(position * self.batch_size, (position + 1) * self.batch_size)
            yield self._batch(epoch.triplets[place], epoch.draws[place])

    def _batch(self, triplets: Tensor, draws: Tensor) -> Batch:
        index = triplets.t().reshape(-1)
        a, p, n = torch.arange(len(index)).view(3, -1)
        return Batch(index, self._labels[index], (a, p, n), draws.transpose(0, 1).reshape(len(index), -1))


class ImageLoader:
    """Every image of ``index`` once, in order, without tuples or augmentation."""

    def __init__(self, index: Tensor, labels: Tensor, batch_size: int) -> None:
        self._index, self._labels, self._batch_size = index, labels, batch_size

    def __len__(self) -> int:
        return -(-len(self._index) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        none = torch.empty(0, dtype=torch.long)
        for index in self._index.split(self._batch_size):
            yield Batch(index, self._labels[index], (none, none, none), None)


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
