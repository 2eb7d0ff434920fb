"""Kinds of batches, a file each: what a micro-batch holds (``batches._target_``)."""

from siamese.data.batches.balanced import Balanced
from siamese.data.batches.hard_negatives import HardNegatives
from siamese.data.batches.kind import Kind, Segment, Training
from siamese.data.batches.magnet import Magnet
from siamese.data.batches.pairs import Pairs
from siamese.data.batches.triplets import Triplets
from siamese.data.batches.views import Views

__all__ = ["Balanced", "HardNegatives", "Kind", "Magnet", "Pairs", "Segment", "Training", "Triplets", "Views"]
