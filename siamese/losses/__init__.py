"""Losses in one convention: ``loss(embeddings [N, D], labels [N], indices_tuple)``.

``indices_tuple`` holds positions in the batch: ``(a, p, n)`` for triplets, ``(a1, p, a2, n)`` for pairs, or is
None, when a loss finds its own tuples by the labels. ``batch_dependent`` is whether the value over given
tuples depends on the other embeddings of the batch; one that is ``over_tuples`` and gets none depends on
which tuples the batch has.
"""

from siamese.losses.batch_hard import TripletHardLoss, TripletSoftLoss
from siamese.losses.centroid import TripletCentroidLoss
from siamese.losses.contrastive import ContrastiveLoss
from siamese.losses.koleo import KoLeo, koleo
from siamese.losses.larl import LabelAwareRankedLoss
from siamese.losses.lifted import LiftedLoss
from siamese.losses.magnet import MagnetLoss
from siamese.losses.n_pair import ConstellationLoss, InstanceLoss, NPairLoss
from siamese.losses.objective import Objective
from siamese.losses.references import References, takes_references
from siamese.losses.triplet import BatchAllTripletLoss, TripletLoss

__all__ = [
    "BatchAllTripletLoss",
    "ConstellationLoss",
    "ContrastiveLoss",
    "InstanceLoss",
    "KoLeo",
    "LabelAwareRankedLoss",
    "LiftedLoss",
    "MagnetLoss",
    "NPairLoss",
    "Objective",
    "References",
    "TripletCentroidLoss",
    "TripletHardLoss",
    "TripletLoss",
    "TripletSoftLoss",
    "koleo",
    "takes_references",
]
