"""The label-aware ranked loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.centroid import class_sums
from siamese.losses.pairwise import mean


class LabelAwareRankedLoss(Loss):
    """Mean over embeddings of ``w · max(0, margin − s_y + s_j)``: the own label's score must lead by a margin.

    The margin form of the label-aware ranked loss, for labels without an order (Servadei et al. 2022,
    Label-aware ranked loss, ranks embeddings by ordinal labels; nothing here compares labels other than
    for equality). ``s_c`` is the score of label c: the mean cosine of the embedding to those of label c
    in the batch, itself left out; y is its own label and j the best scored of the others. The
    weight ``w = 1 / (1 + log(1 + class_weighting · n_y))`` lets frequent labels count less, n_y being the
    embeddings of label y in the batch; with ``class_weighting=0`` all count alike.
    """

    uses_tuples = False

    def __init__(self, margin: float = 0.4, class_weighting: float = 1.0) -> None:
        super().__init__()
        self.margin, self.class_weighting = margin, class_weighting

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N]; drawn tuples are not used. Embeddings that
        are alone with their label are left out; zero where no other is left, or where there is one label."""
        z = nn.functional.normalize(embeddings, dim=1)
        of_class, sums, counts = class_sums(z, labels)
        if len(counts) < 2:
            return z.sum() * 0
        dots = z @ sums.t()
        own = nn.functional.one_hot(of_class, len(counts)).bool()
        best = (dots / counts).masked_fill(own, float("-inf")).amax(1)
        n = counts[of_class]
        score = (dots[own] - z.square().sum(1)) / (n - 1).clamp(min=1)
        weights = 1 / (1 + torch.log1p(self.class_weighting * n))
        return mean((weights * nn.functional.relu(self.margin - score + best))[n > 1])
