"""Figures: functions of arrays that return a matplotlib Figure, and all those of a run directory.

No figure goes through pyplot, so that none has to be closed and threads do not meet."""

from siamese.figures.embedding import distance_matrix, nearest_classes, projection, similarity_histogram, spectrum
from siamese.figures.failures import failures
from siamese.figures.images import gallery, hardest_triplets, pair_grid, sample_grid, triplet_grid
from siamese.figures.redraw import drawings, from_arrays
from siamese.figures.style import class_style
from siamese.figures.training import loss_curves, metric_curves, roc_curves

__all__ = [
    "class_style",
    "distance_matrix",
    "drawings",
    "failures",
    "from_arrays",
    "gallery",
    "hardest_triplets",
    "loss_curves",
    "metric_curves",
    "nearest_classes",
    "pair_grid",
    "projection",
    "roc_curves",
    "sample_grid",
    "similarity_histogram",
    "spectrum",
    "triplet_grid",
]
