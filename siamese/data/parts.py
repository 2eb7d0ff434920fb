"""What a source says of the parts that its images belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siamese.data.images import LabelledImages


@dataclass(frozen=True)
class Parts:
    """Images by what their source says of them.

    Attributes:
        pool: int64 [n], those that it does not set apart.
        validation: int64 [n], those that it sets apart for validation, and ``test`` [n] for testing.
        labels: int64 [N], the class of every image.
        groups: int64 [N], the group of every image, if there are groups; one that is in none has its own.
    """

    pool: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    groups: np.ndarray | None


def parts_of(source: LabelledImages) -> Parts:
    """The parts of ``source``. Pixels are not looked at."""
    test = source.is_test
    validation = np.zeros_like(test) if source.is_validation is None else source.is_validation & ~test
    groups = None
    if source.groups is not None:
        names, groups = np.unique(source.groups, return_inverse=True)
        alone = np.flatnonzero(source.groups == "")
        groups[alone] = len(names) + np.arange(len(alone))
    pool, validation, test = (np.flatnonzero(chosen) for chosen in (~test & ~validation, validation, test))
    return Parts(pool, validation, test, source.labels.numpy(), groups)
