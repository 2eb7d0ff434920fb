"""Batches of pairs."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.kind import Formed, spaced
from siamese.data.draws import generator
from siamese.data.tuples import consecutive_pairs, pairs_of


class Pairs(Formed):
    """``data.batch_size`` pairs of images, half of one class and half of two over an epoch, formed as
    ``data.triplets`` says. A loss gets ``(a1, p, a2, n)``, the pairs of one class and those of two."""

    form = item = unit = "pairs"
    verifies_pairs = True
    images = 2

    def of_triplets(self, triplets: np.ndarray) -> np.ndarray:
        return pairs_of(triplets)

    def of_consecutive(self, labels: np.ndarray, per_class: int | None, seed: int) -> np.ndarray:
        return drawn_pairs(labels, per_class, seed, "train")

    def tuples(self, labels: Tensor) -> Tuples:
        same = labels[0] == labels[1]
        first, second = torch.arange(labels.numel()).view(2, -1)
        return first[same], second[same], first[~same], second[~same]

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        return [(rows, (a, p, a, n)) for rows, (a, p, n) in spaced(triplets)]


def drawn_pairs(labels: np.ndarray, per_class: int | None, seed: int, part: str) -> np.ndarray:
    """:func:`consecutive_pairs` as ``seed`` has it for a part of the data."""
    return consecutive_pairs(labels, per_class, generator(seed, f"{part} pairs"))
