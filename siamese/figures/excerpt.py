"""Which classes a figure shows where there are more than can be told apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WHOLE, EXCERPT = 40, 24  # classes up to which a figure shows all, and how many it shows of more


@dataclass(frozen=True)
class Excerpt:
    """The classes that a figure shows.

    Attributes:
        labels: int64 [K], ascending.
        total: the classes that there are.
        choice: what they are among them: the largest, or the most confused.
    """

    labels: np.ndarray
    total: int
    choice: str

    @property
    def words(self) -> str:
        """What is shown, for a title; nothing where that is every class."""
        return f"{len(self.labels)} of {self.total:,} classes, {self.choice}" if len(self.labels) < self.total else ""


def largest(counts: np.ndarray) -> Excerpt:
    """The classes of most images, by their ``counts`` [C]; those without an image are not there."""
    return _first(np.argsort(-counts, kind="stable"), int(np.count_nonzero(counts)), "the largest")


def most_confused(distances: np.ndarray) -> Excerpt:
    """The classes nearest to another one, by the ``distances`` [C] to the nearest; a class without is NaN.

    The nearest of a class that is shown is shown too, for it lies at least as near to another class itself.
    """
    order = np.argsort(distances, kind="stable")  # NaN comes last
    return _first(order, int(np.isfinite(distances).sum()), "the most confused")


def nearest_distances(matrix: np.ndarray) -> np.ndarray:
    """The distance [C] from each class to the nearest other one, of a matrix [C, C]; NaN where there is none."""
    found = np.full(len(matrix), np.nan)
    for label, row in enumerate(matrix):
        others = np.delete(row, label)
        if np.isfinite(others).any():
            found[label] = np.nanmin(others)
    return found


def _first(order: np.ndarray, total: int, choice: str) -> Excerpt:
    shown = total if total <= WHOLE else EXCERPT
    return Excerpt(np.sort(order[:shown]), total, choice)
