"""Batches of triplets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from siamese.config.schema import Data
from siamese.data.batch import Tuples
from siamese.data.batches.kind import Kind, Segment, Training, drawn_triplets, shuffled, spaced
from siamese.data.tuples import article_triplets


class Triplets(Kind):
    """``data.batch_size`` triplets, formed as ``data.triplets`` says. A loss gets ``(a, p, n)``, each [B]."""

    form = item = unit = "triplets"
    has_roles = True
    images = 3

    def fixed(self, labels: np.ndarray, data: Data, seed: int) -> np.ndarray | None:
        if data.triplets == "resampled":
            return None
        if data.triplets == "fixed":
            return drawn_triplets(labels, data.negatives_per_class, seed, "train")
        return article_triplets(labels, data.negatives_per_class, np.random.RandomState(seed))

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        items = training.fixed
        if items is None:
            per_class = training.data.negatives_per_class
            items = drawn_triplets(training.labels, per_class, training.seed, "train", epoch)
        return shuffled(items, training, epoch)

    def tuples(self, labels: Tensor) -> Tuples:
        return tuple(torch.arange(labels.numel()).view(3, -1))

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        return [*spaced(triplets)]
