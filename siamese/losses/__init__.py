"""Losses in one convention: ``loss(embeddings [N, D], labels [N], indices_tuple)``."""

from siamese.losses.koleo import KoLeo, koleo
from siamese.losses.objective import Objective
from siamese.losses.references import References, takes_references
from siamese.losses.triplet import BatchAllTripletLoss, TripletLoss

__all__ = ["BatchAllTripletLoss", "KoLeo", "Objective", "References", "TripletLoss", "koleo", "takes_references"]
