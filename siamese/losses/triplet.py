"""Losses over triplets of embeddings."""

from __future__ import annotations

from torch import Tensor, nn

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
