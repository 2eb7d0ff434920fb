"""Losses in one convention: ``loss(embeddings [N, D], labels [N], indices_tuple)``."""

from siamese.losses.koleo import KoLeo, koleo
from siamese.losses.objective import Objective
from siamese.losses.triplet import TripletLoss

__all__ = ["KoLeo", "Objective", "TripletLoss", "koleo"]
