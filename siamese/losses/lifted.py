"""The lifted structured loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import blocks, distances, masked_logsumexp, relations


class LiftedLoss(Loss):
    """``1 / (2·|P|) · Σ_(i,j)∈P max(0, J_ij)²`` over the pairs P of one label.

    With ``smooth``, ``J_ij = D_ij + log(Σ_k exp(margin − D_ik) + Σ_l exp(margin − D_jl))`` over the
    negatives k of i and l of j; otherwise the hardest negative alone,
    ``J_ij = D_ij + max(max_k margin − D_ik, max_l margin − D_jl)``. D is the Euclidean distance of the
    embeddings as they come. Song, Xiang, Jegelka and Savarese 2016 (Deep metric learning via lifted
    structured feature embedding), equation 4, and equation 3 for the hard form.
    """

    uses_tuples = False

    def __init__(self, margin: float = 1.0, smooth: bool = True) -> None:
        super().__init__()
        self.margin, self.smooth = margin, smooth

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N]; drawn tuples are not used. Pairs
        without negatives are masked: zero where there is one class, or no pair."""
        z = embeddings
        negatives = torch.cat([z.new_empty(0), *(self._negatives(z, labels, rows) for rows in blocks(len(z), len(z)))])
        join = torch.logaddexp if self.smooth else torch.maximum
        total, pairs = z.sum() * 0, 0
        for rows in blocks(len(z), len(z)):
            positive, _ = relations(labels, rows)
            lifted = distances(z[rows], z) + join(negatives[rows, None], negatives)
            total = total + torch.where(positive, nn.functional.relu(lifted).square(), 0).sum()
            pairs += int(positive.sum())
        return total / (2 * max(pairs, 1))  # every pair was counted from both ends

    def _negatives(self, z: Tensor, labels: Tensor, rows: slice) -> Tensor:
        """What the negatives of each row [R] come to; hugely negative where it has none."""
        _, negative = relations(labels, rows)
        return masked_logsumexp(self.margin - distances(z[rows], z), negative, None if self.smooth else 1)
