"""The triplet loss against the centroids of classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import mean, squared_distances


class TripletCentroidLoss(Loss):
    """Mean of ``max(0, ‖a − c(a)‖² − ‖a − c‖² + margin)`` over anchors and the centroids c of other classes.

    Wieczorek, Rychalska and Dąbrowski 2021 (On the unreasonable effectiveness of centroids in image
    retrieval), equation 2. Centroids are means over the batch; c(a), that of the anchor's own class,
    leaves the anchor out, so that an anchor needs another image of its class.
    """

    uses_tuples = False

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N]; drawn tuples are not used. Zero where
        no class has two images, or where there is one class."""
        z = embeddings
        of_class, sums, counts = class_sums(z, labels)
        anchors = counts[of_class] > 1
        z, of_class = z[anchors], of_class[anchors]
        own = (sums[of_class] - z) / (counts[of_class] - 1)[:, None]
        near = (z - own).square().sum(1, keepdim=True)
        hinges = nn.functional.relu(near - squared_distances(z, sums / counts[:, None]) + self.margin)
        others = torch.arange(len(counts), device=z.device) != of_class[:, None]
        return mean(hinges[others])


def class_sums(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the C labels that occur: which of them each row has [N], the sums of their rows [C, D], and
    how many rows they have [C]."""
    classes, of_class = labels.unique(return_inverse=True)
    members = nn.functional.one_hot(of_class, len(classes)).to(z.dtype)
    return of_class, members.t() @ z, members.sum(0)
