"""Losses over triplets of embeddings under the cosine distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import blocks, mean, relations


class TripletLoss(Loss):
    """Mean over triplets of ``max(0, d(a, p) − d(a, n) + margin)``, with ``d = 1 − cos``.

    Schroff, Kalenichenko and Philbin 2015 (FaceNet), equation 3, with the cosine distance in place
    of the squared Euclidean one and the mean over all triplets, satisfied ones included.
    """

    batch_dependent = False

    def __init__(self, margin: float = 0.4) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] over ``(a, p, n)``, each [T]; with None, over every triplet
        that ``labels`` [N] allow (:func:`all_triplets`). Zero without any triplet.

        Raises:
            ValueError: for tuples that are not triplets.
        """
        if indices_tuple is None:
            return all_triplets(embeddings, labels, self.margin)
        z = nn.functional.normalize(embeddings, dim=1)
        a, p, n = (z[index] for index in triplets(indices_tuple, self))
        return mean(nn.functional.relu((a * n).sum(1) - (a * p).sum(1) + self.margin))


class BatchAllTripletLoss(Loss):
    """:class:`TripletLoss` over every triplet that the labels of the batch allow, not only those drawn."""

    uses_tuples = False

    def __init__(self, margin: float = 0.4) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """:func:`all_triplets` of ``embeddings`` [N, D] with ``labels`` [N]; the drawn ``indices_tuple``
        is not used. Zero where the labels allow no triplet."""
        return all_triplets(embeddings, labels, self.margin)


def triplets(indices_tuple: tuple[Tensor, ...], loss: nn.Module) -> tuple[Tensor, ...]:
    """``(a, p, n)``, each [T].

    Raises:
        ValueError: naming ``loss``, for tuples that are not triplets.
    """
    if len(indices_tuple) != 3:
        name = type(loss).__name__
        raise ValueError(f"{name} takes triplets (a, p, n) or None, found a tuple of {len(indices_tuple)}")
    return indices_tuple


def all_triplets(embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Mean of ``max(0, d(a, p) − d(a, n) + margin)``, ``d = 1 − cos``, over every triplet of the labels.

    Hermans, Beyer and Leibe 2017 (In defense of the triplet loss), equation 6, with the cosine
    distance and the mean over all triplets. For each anchor the similarities to negatives are sorted
    and summed up once, so that time is O(N² log N) and memory O(N²), never N³. Zero without triplets.
    """
    z = nn.functional.normalize(embeddings, dim=1)
    total, count = z.sum() * 0, 0
    for rows in blocks(len(z), len(z)):
        hinges, number = _of(z[rows] @ z.t(), *relations(labels, rows), margin)
        total, count = total + hinges, count + number
    return total / max(count, 1)


def _of(cosine: Tensor, positive: Tensor, negative: Tensor, margin: float) -> tuple[Tensor, int]:
    """Sum over the triplets of the anchors whose ``cosine`` [A, N] to all this is, and their number.

    Of one positive with cosine s, the hinges of the negatives above ``s − margin`` are active:
    with their number k and sum S, they add up to ``S − k·(s − margin)``.
    """
    ordered, _ = torch.where(negative, cosine, float("-inf")).sort(dim=1)
    sums = nn.functional.pad(torch.where(ordered.isfinite(), ordered, 0).cumsum(1), (1, 0))
    threshold = cosine - margin
    below = torch.searchsorted(ordered.detach(), threshold.detach().contiguous(), right=True)
    hinges = sums[:, -1:] - sums.gather(1, below) - (len(cosine[0]) - below) * threshold
    return hinges[positive].sum(), int((positive.sum(1) * negative.sum(1)).sum())
