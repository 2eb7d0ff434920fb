"""Classes as a loss with class weights tells them."""

from __future__ import annotations

import numpy as np

from siamese.evaluation.names import Undefined


def class_accuracy(predicted: np.ndarray, labels: np.ndarray, trained: np.ndarray) -> float | Undefined:
    """Of the images whose class is among the ``trained`` [C], the share that is ``predicted`` [N] to be of its class,
    ``labels`` [N]."""
    known = np.isin(labels, trained)
    if not known.any():
        return Undefined("no image is of a class that was trained on")
    return float((predicted == labels)[known].mean())
