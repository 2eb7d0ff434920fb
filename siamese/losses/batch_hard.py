"""Triplet losses under the squared Euclidean distance, with a hard and with a soft margin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import blocks, mean, relations, squared_distances
from siamese.losses.triplet import triplets


class _TripletMargin(Loss):
    batch_dependent = False
    penalty: Callable[[Tensor], Tensor]  # of each violation of the margin [T]

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D]: over the triplets ``(a, p, n)`` given, each [T], whether drawn
        or mined; with None, over each anchor's hardest by ``labels`` [N]. Zero without any triplet.

        Raises:
            ValueError: for tuples that are not triplets.
        """
        return mean(self.penalty(differences(self, embeddings, labels, indices_tuple) + self.margin))


class TripletHardLoss(_TripletMargin):
    """Mean of ``max(0, ‖a − p‖² − ‖a − n‖² + margin)`` over the triplets of :func:`differences`.

    Schroff, Kalenichenko and Philbin 2015 (FaceNet), equation 3, over given triplets; without them
    over the hardest of each anchor (Hermans, Beyer and Leibe 2017, equation 5), with the squared
    distance and the mean over anchors.
    """

    penalty = staticmethod(nn.functional.relu)


class TripletSoftLoss(_TripletMargin):
    """Mean of ``log(1 + exp(‖a − p‖² − ‖a − n‖² + margin))`` over the triplets of :func:`differences`.

    The soft margin of Hermans, Beyer and Leibe 2017 (In defense of the triplet loss), section 2, which
    has no margin; with one, as here, the soft plus only starts earlier.
    """

    penalty = staticmethod(nn.functional.softplus)


def differences(loss: nn.Module, z: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
    """``‖a − p‖² − ‖a − n‖²`` [T] of the given triplets; with None, of one triplet an anchor: its
    farthest positive and its nearest negative in the batch (anchors without either are left out)."""
    if indices_tuple is not None:
        a, p, n = (z[index] for index in triplets(indices_tuple, loss))
        return (a - p).square().sum(1) - (a - n).square().sum(1)
    found = [z.new_empty(0)]
    for rows in blocks(len(z), len(z)):
        d = squared_distances(z[rows], z)
        positive, negative = relations(labels, rows)
        farthest = torch.where(positive, d, float("-inf")).amax(1)
        nearest = torch.where(negative, d, float("inf")).amin(1)
        anchors = positive.any(1) & negative.any(1)
        found.append(farthest[anchors] - nearest[anchors])
    return torch.cat(found)
