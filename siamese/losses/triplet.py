"""Losses over triplets of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BLOCK_ENTRIES = 1 << 22  # similarities held at a time: 16 MB in float32

Triplets = tuple[Tensor, Tensor, Tensor]


class TripletLoss(nn.Module):
    """Mean over triplets of ``max(0, d(a, p) − d(a, n) + margin)``, with ``d = 1 − cos``.

    Schroff, Kalenichenko and Philbin 2015 (FaceNet), equation 3, with the cosine distance in place
    of the squared Euclidean one and the mean over all triplets, satisfied ones included.
    """

    batch_dependent = False

    def __init__(self, margin: float = 0.4) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Triplets) -> Tensor:
        """The loss of ``embeddings`` [N, D] over ``(a, p, n)``, each [T]; ``labels`` are not used."""
        z = nn.functional.normalize(embeddings, dim=1)
        a, p, n = (z[index] for index in indices_tuple)
        return nn.functional.relu((a * n).sum(1) - (a * p).sum(1) + self.margin).mean()


class BatchAllTripletLoss(nn.Module):
    """:class:`TripletLoss` over every triplet that the labels of the batch allow, not only those drawn.

    Hermans, Beyer and Leibe 2017 (In defense of the triplet loss), equation 6, with the cosine
    distance and the mean over all triplets. For each anchor the similarities to negatives are sorted
    and summed up once, so that time is O(N² log N) and memory O(N²), never N³.
    """

    batch_dependent = True
    takes_references = True

    def __init__(self, margin: float = 0.4) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Triplets) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N]; the drawn ``indices_tuple`` is not used.
        Zero where the labels allow no triplet."""
        z = nn.functional.normalize(embeddings, dim=1)
        total, count = z.sum() * 0, 0
        for anchors in torch.arange(len(z), device=z.device).split(max(1, BLOCK_ENTRIES // len(z))):
            same = labels[anchors, None] == labels
            positive = same.clone()
            positive[torch.arange(len(anchors)), anchors] = False
            block, triplets = self._of(z[anchors] @ z.t(), positive, ~same)
            total, count = total + block, count + triplets
        return total / max(count, 1)

    def _of(self, cosine: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, int]:
        """Sum over the triplets of the anchors whose ``cosine`` [A, N] to all this is, and their number.

        Of one positive with cosine s, the hinges of the negatives above ``s − margin`` are active:
        with their number k and sum S, they add up to ``S − k·(s − margin)``.
        """
        ordered, _ = torch.where(negative, cosine, float("-inf")).sort(dim=1)
        sums = nn.functional.pad(torch.where(ordered.isfinite(), ordered, 0).cumsum(1), (1, 0))
        threshold = cosine - self.margin
        below = torch.searchsorted(ordered.detach(), threshold.detach().contiguous(), right=True)
        hinges = sums[:, -1:] - sums.gather(1, below) - (len(cosine[0]) - below) * threshold
        triplets = (positive.sum(1) * negative.sum(1)).sum()
        return hinges[positive].sum(), int(triplets)
