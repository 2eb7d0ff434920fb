"""Batches of triplets."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.kind import Formed, spaced
from siamese.data.tuples import article_triplets


class Triplets(Formed):
    """``data.batch_size`` triplets, formed as ``data.triplets`` says. A loss gets ``(a, p, n)``, each [B]."""

    form = item = unit = "triplets"
    has_roles = True
    images = 3

    def of_triplets(self, triplets: np.ndarray) -> np.ndarray:
        return triplets

    def of_consecutive(self, labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
        return article_triplets(labels, per_class, np.random.RandomState(seed))

    def tuples(self, labels: Tensor) -> Tuples:
        return tuple(torch.arange(labels.numel()).view(3, -1))

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        return [*spaced(triplets)]
