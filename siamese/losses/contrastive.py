"""The contrastive loss, over pairs of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import blocks, distances, mean


class ContrastiveLoss(Loss):
    """Mean over pairs of ``D²`` where the labels agree and ``max(0, margin − D)²`` where they differ.

    Hadsell, Chopra and LeCun 2006 (Dimensionality reduction by learning an invariant mapping),
    equation 4, without its factor ½. D is the Euclidean distance of the embeddings as they come. The
    paper's Y is 0 for a similar pair and 1 for a dissimilar one; here labels are classes, and a pair
    is similar when its two labels are equal.
    """

    batch_dependent = False

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] over the pairs ``(a1, p, a2, n)``; over the pairs (a, p)
        and (a, n) of triplets ``(a, p, n)``; or, with None, over every pair of the batch by ``labels`` [N].
        Zero where there is no pair.

        Raises:
            ValueError: for a tuple of another length.
        """
        if indices_tuple is None:
            return self._over_all(embeddings, labels)
        if len(indices_tuple) not in (3, 4):
            raise ValueError(
                "ContrastiveLoss takes pairs (a1, p, a2, n), triplets (a, p, n) or None, "
                f"found a tuple of {len(indices_tuple)}"
            )
        z, (a1, p, *_), (*_, n) = embeddings, indices_tuple, indices_tuple
        a2 = indices_tuple[-2] if len(indices_tuple) == 4 else a1
        near = (z[a1] - z[p]).square().sum(1)
        apart = torch.linalg.vector_norm(z[a2] - z[n], dim=1)
        return mean(torch.cat([near, self._push(apart)]))

    def _push(self, distance: Tensor) -> Tensor:
        return nn.functional.relu(self.margin - distance).square()

    def _over_all(self, z: Tensor, labels: Tensor) -> Tensor:
        total = z.sum() * 0
        for rows in blocks(len(z), len(z)):
            d = distances(z[rows], z)  # 0 to itself, and a positive at 0 adds nothing
            total = total + torch.where(labels[rows, None] == labels, d.square(), self._push(d)).sum()
        return total / max(len(z) * (len(z) - 1), 1)
