"""All pairs of images, a block of rows at a time: what retrieval, verification and spread share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

BLOCK_ENTRIES = 1 << 22  # distances held at a time
FLOOR = 2.0**-40  # a squared distance of unit vectors below it (1e-6 squared) is that of float32's rounding


@dataclass(frozen=True)
class Rows:
    """Embeddings made comparable: of length 1, in float64, sorted by class, and within it by content.

    The order is a function of the rows alone, so whatever is computed from it, random draws and ties
    included, is the same whatever order the rows came in; and every class is a slice.

    Attributes:
        unit: float64 [N, D].
        labels: int64 [N], ascending, 0 to the number of classes that are present.
        order: int64 [N], the place of each row in what was given.
        starts: int64 [C + 1]; class c is ``starts[c]:starts[c + 1]``.
    """

    unit: Tensor
    labels: np.ndarray
    order: np.ndarray
    starts: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """The number of images of each class, int64 [C]."""
        return np.diff(self.starts)

    def segments(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """The rows ``start:stop`` class by class: the rows of one (from ``start`` on), its columns."""
        for c in range(self.labels[start], self.labels[stop - 1] + 1):
            first, last = int(self.starts[c]), int(self.starts[c + 1])
            yield slice(max(first, start) - start, min(last, stop) - start), slice(first, last)


def problem(embeddings: np.ndarray, labels: np.ndarray) -> str | None:
    """Why ``embeddings`` [N, D] with ``labels`` [N] cannot be measured, or None."""
    if embeddings.ndim != 2 or not embeddings.size:
        return f"expected embeddings [N, D], found shape {list(embeddings.shape)}"
    if labels.shape != embeddings.shape[:1]:
        return f"expected one label an embedding, found {labels.size} labels for {len(embeddings)} embeddings"
    for good, what in (
        (np.isfinite(embeddings).all(axis=1), "NaN or infinite"),
        (embeddings.any(axis=1), "zero, which has no direction"),
    ):
        if not np.all(good):
            bad = np.flatnonzero(~good)
            return f"{len(bad)} of {len(embeddings)} embeddings are {what} (the first is row {bad[0]})"
    return None


def rows(embeddings: np.ndarray, labels: np.ndarray) -> Rows:
    """Sort and normalise ``embeddings`` [N, D] of classes ``labels`` [N].

    Raises:
        ValueError: for what :func:`problem` says.
    """
    if reason := problem(embeddings, labels):
        raise ValueError(reason)
    wide = embeddings.astype(np.float64)
    wide /= np.abs(wide).max(axis=1, keepdims=True)  # so that no square overflows or vanishes
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    narrow = np.ascontiguousarray(wide, dtype=np.float32) + 0.0  # there is one zero
    order = np.argsort(narrow.view(np.dtype((np.void, 4 * wide.shape[1]))).ravel(), kind="stable")
    order = order[np.argsort(labels[order], kind="stable")]
    _, codes, counts = np.unique(labels[order], return_inverse=True, return_counts=True)
    return Rows(torch.from_numpy(wide[order]), codes, order, np.concatenate([[0], counts.cumsum()]))


class Consumer(Protocol):
    """What looks at every block of distances once."""

    def add(self, start: int, squared: Tensor) -> None:
        """Take in the ``squared`` distances float32 [b, N] of the rows from ``start`` on; a row's to
        itself is infinite. They are shared: not to be written to."""


def sweep(unit: Tensor, consumers: Iterable[Consumer], entries: int = BLOCK_ENTRIES) -> None:
    """Show each of ``consumers`` the squared Euclidean distances of ``unit`` [N, D], block by block.

    They are computed in float64 and rounded to float32, in which equal ones are equal whatever their
    last bits: that is what a tie is.
    """
    consumers = list(consumers)
    size = max(1, entries // len(unit))
    two = unit.new_tensor(2.0)
    for start in range(0, len(unit), size):
        squared = torch.addmm(two, unit[start : start + size], unit.t(), alpha=-2).float().clamp_(FLOOR, 4.0)
        squared.diagonal(start).fill_(torch.inf)
        for consumer in consumers:
            consumer.add(start, squared)
