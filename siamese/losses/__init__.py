"""Losses in one convention, ``loss(embeddings [N, D], labels [N], indices_tuple)``; :mod:`siamese.losses.base` states
it, and what a loss says of itself."""

from siamese.losses.base import Loss, Traits, traits
from siamese.losses.batch_hard import TripletHardLoss, TripletSoftLoss
from siamese.losses.centroid import TripletCentroidLoss
from siamese.losses.contrastive import ContrastiveLoss
from siamese.losses.koleo import KoLeo, koleo
from siamese.losses.larl import LabelAwareRankedLoss
from siamese.losses.lifted import LiftedLoss
from siamese.losses.magnet import MagnetLoss
from siamese.losses.n_pair import ConstellationLoss, InstanceLoss, NPairLoss
from siamese.losses.objective import Objective
from siamese.losses.proxies import ProxySoftmaxLoss
from siamese.losses.references import References
from siamese.losses.triplet import BatchAllTripletLoss, TripletLoss

__all__ = [
    "BatchAllTripletLoss",
    "ConstellationLoss",
    "ContrastiveLoss",
    "InstanceLoss",
    "KoLeo",
    "LabelAwareRankedLoss",
    "LiftedLoss",
    "Loss",
    "MagnetLoss",
    "NPairLoss",
    "Objective",
    "ProxySoftmaxLoss",
    "References",
    "Traits",
    "TripletCentroidLoss",
    "TripletHardLoss",
    "TripletLoss",
    "TripletSoftLoss",
    "koleo",
    "traits",
]
