"""Embedded images to look among, and what is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from siamese.errors import ConfigError
from siamese.evaluation.blocks import directions, problem
from siamese.runs.arrays import read_arrays

ENTRIES = 1 << 22  # numbers held at a time


class Neighbours(NamedTuple):
    """What is nearest to N vectors, the nearest first.

    Attributes:
        ids: text [N, k].
        distances: float64 [N, k], Euclidean, of unit vectors.
        classes: text [N, k], empty of an image without a class.
        positions: int64 [N, k], among what was looked through.
    """

    ids: np.ndarray
    distances: np.ndarray
    classes: np.ndarray
    positions: np.ndarray


class Searchable(Protocol):
    """What :meth:`siamese.encoder.Encoder.search` can look in: a gallery, an index."""

    def search(self, vectors: np.ndarray, k: int) -> Neighbours:
        """The ``k`` nearest to each of ``vectors`` [N, D]."""


@dataclass(frozen=True)
class Gallery:
    """Embedded images, all of which are looked at.

    Attributes:
        name: what errors call it.
        embeddings: float [G, D].
        ids: text [G].
        labels: int64 [G], indices into ``class_names``, -1 of an image without a class.
    """

    name: str
    embeddings: np.ndarray
    ids: np.ndarray
    labels: np.ndarray
    class_names: Sequence[str]

    @classmethod
    def of_run(cls, run: Path) -> Gallery:
        """The test images of ``run``, as it embedded them itself.

        Raises:
            RunError: when they are not there, or damaged.
        """
        stored = read_arrays(run / "arrays" / "test.npz", "embeddings", "ids", "labels", "class_names")
        names = [str(name) for name in stored["class_names"]]
        return cls(f"{run}: its test images", stored["embeddings"], stored["ids"], stored["labels"], names)

    @cached_property
    def _unit(self) -> np.ndarray:
        return directions(self.embeddings)

    def search(self, vectors: np.ndarray, k: int) -> Neighbours:
        """The ``k`` nearest to each of ``vectors`` [N, D], an image itself among them; of those at one distance, the
        first comes first.

        Raises:
            ConfigError: for more than there are, and for vectors of another length.
        """
        count, dimensions = self.embeddings.shape
        queries = sought(vectors, k, count, dimensions, self.name)
        positions = np.empty((len(queries), k), dtype=np.int64)
        distances = np.empty((len(queries), k))
        size = max(1, ENTRIES // (count + k * dimensions))
        for start in range(0, len(queries), size):
            some = queries[start : start + size]
            near = _smallest(-(some @ self._unit.T), k)
            # From differences: of vectors that are almost the same, a product tells nothing.
            apart = np.linalg.norm(some[:, None] - self._unit[near], axis=2)
            order = np.lexsort((near, apart), axis=1)
            positions[start : start + size] = np.take_along_axis(near, order, axis=1)
            distances[start : start + size] = np.take_along_axis(apart, order, axis=1)
        names = np.array([*self.class_names, ""], dtype=str)
        return Neighbours(self.ids[positions], distances, names[self.labels[positions]], positions)


def sought(vectors: np.ndarray, k: int, count: int, dimensions: int, name: str) -> np.ndarray:
    """``vectors`` at length 1, float64, whose ``k`` nearest of ``count`` are to be found in what is called ``name``.

    Raises:
        ConfigError: for more than there are, and for vectors of another length than ``dimensions``.
    """
    if not 1 <= k <= count:
        raise ConfigError(f"k={k}: expected 1 to {count:,}, as many as there are ({name})")
    if vectors.ndim != 2 or vectors.shape[1] != dimensions:
        raise ConfigError(f"expected vectors [N, {dimensions}], found shape {list(vectors.shape)} ({name})")
    if len(vectors) and (reason := problem(vectors, np.zeros(len(vectors)))):
        raise ConfigError(reason)
    return directions(vectors)


def _smallest(values: np.ndarray, k: int) -> np.ndarray:
    """The columns of the ``k`` smallest of each row, in any order; of equal ones those that come first."""
    last = np.partition(values, k - 1, axis=1)[:, k - 1 : k]
    chosen, tied = values < last, values == last
    chosen |= tied & (tied.cumsum(axis=1) <= k - chosen.sum(axis=1, keepdims=True))
    return np.nonzero(chosen)[1].reshape(len(values), k)
