"""Batches of images in two views each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.kind import MEASURED, Kind, Segment, Training, shuffled, spaced


class Views(Kind):
    """``data.batch_size`` images, each in two augmentations. A loss gets ``(a1, p, a2, n)``: every image of either
    view is an anchor, its other view the positive and every view of the other images a negative; the first B of
    ``(a1, p)`` are view 1 against view 2."""

    form, item = "views", "images"
    joins_items = True
    needs_classes = False
    several_classes = True
    images = 2

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        return shuffled(np.arange(len(training.labels)).repeat(2).reshape(-1, 2), training, epoch)

    def tuples(self, labels: Tensor) -> Tuples:
        count = labels.shape[1]
        anchors, instance = torch.arange(2 * count), torch.arange(count).repeat(2)
        a2, n = torch.where(instance[:, None] != instance)
        return anchors, anchors.roll(count), a2, n

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        """The anchors, positives and negatives of the triplets; of images without a class as many of them at a time as
        are triplets else, each beside its other view. The rows of those come after the rows of all images."""
        if len(triplets):
            return [(rows, (a, p, a, n)) for rows, (a, p, n) in spaced(triplets)]
        batches = -(-len(labels) // MEASURED)
        chosen = [torch.arange(first, len(labels), batches) for first in range(batches)]
        return [(torch.cat([rows, len(labels) + rows]), self.tuples(rows.expand(2, -1))) for rows in chosen]
