"""Embeddings made comparable, and what a distance and a tie are: what all measures share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK_ENTRIES = 1 << 21  # distances held at a time
NOTHING = 2.0**-98  # a squared distance of unit vectors below it is that of float64's rounding
GATHERED = 1 << 22  # numbers that are gathered at a time where single pairs are looked at


@dataclass(frozen=True)
class Rows:
    """Embeddings of length 1, in float64, sorted by class, and within it by content.

    The order is a function of the rows and of which of them are of one class, so whatever is computed from it, random
    draws and ties included, is the same whatever order the rows came in and whatever the classes are called; and
    every class is a slice.

    Attributes:
        unit: float64 [N, D].
        labels: int64 [N], ascending, 0 to the number of classes that are present. An image without a class is one
            of its own, and comes last.
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


def directions(embeddings: np.ndarray) -> np.ndarray:
    """The rows of ``embeddings`` [N, D] at length 1, float64; the same for rows that are multiples of each other by a
    power of 2, whatever their length."""
    wide = embeddings.astype(np.float64)
    wide /= np.abs(wide).max(axis=1, keepdims=True)  # so that no square overflows or vanishes
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide


def rows(embeddings: np.ndarray, labels: np.ndarray) -> Rows:
    """Sort and normalise ``embeddings`` [N, D] of classes ``labels`` [N]; below 0 is no class.

    Raises:
        ValueError: for what :func:`problem` says.
    """
    if reason := problem(embeddings, labels):
        raise ValueError(reason)
    unit = directions(embeddings)
    content = _ranks(unit)
    classes = _classes(np.asarray(labels), content)
    order = np.lexsort((content, classes))
    counts = np.bincount(classes)
    return Rows(torch.from_numpy(unit[order]), classes[order], order, np.concatenate([[0], counts.cumsum()]))


def _ranks(unit: np.ndarray) -> np.ndarray:
    """The place of each row's content among those that there are, in float32, int64 [N]; equal rows share one."""
    narrow = np.ascontiguousarray(unit, dtype=np.float32) + 0.0  # there is one zero
    _, ranks = np.unique(narrow.view(np.dtype((np.void, 4 * unit.shape[1]))).ravel(), return_inverse=True)
    return ranks


def _classes(labels: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The classes numbered by what is in them, not by what they are called; each image without one after them."""
    of_class = np.flatnonzero(labels >= 0)
    _, codes, counts = np.unique(labels[of_class], return_inverse=True, return_counts=True)
    held = content[of_class][np.lexsort((content[of_class], codes))].astype(">i8")  # whose bytes sort as they do
    parts = [part.tobytes() for part in np.split(held, counts.cumsum()[:-1])]
    place = np.empty(len(counts), dtype=np.int64)
    place[sorted(range(len(counts)), key=parts.__getitem__)] = np.arange(len(counts))
    found = np.empty(len(labels), dtype=np.int64)
    found[of_class] = place[codes]
    without = np.flatnonzero(labels < 0)
    found[without[np.argsort(content[without], kind="stable")]] = len(counts) + np.arange(len(without))
    return found


def tie_key(squared: Tensor) -> Tensor:
    """``squared`` distances, float64, as float32: two are tied when they are equal in it, which is relative (one part
    in 2^24) however small they are, down to what float64 can tell of unit vectors."""
    return torch.where(squared < NOTHING, 0.0, squared).float()


def squared_distances(one: Tensor, other: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances of ``one[i]`` and ``other[j]``, from differences in float64, by
    :func:`tie_key`: float32 [P]."""
    found = torch.empty(len(i), dtype=torch.float32, device=one.device)
    size = max(1, GATHERED // one.shape[1])
    for start in range(0, len(i), size):
        some = slice(start, start + size)
        found[some] = tie_key((one[i[some]] - other[j[some]]).square_().sum(1))
    return found


def all_squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """The same of every row of ``one`` [n, D] to every one of ``other`` [m, D]: float32 [n, m]."""
    apart = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    return tie_key(apart.square_())


class Block(NamedTuple):
    """``squared`` distances, float32, of pairs of rows; ``rows`` and ``columns`` are their places, of a shape that goes
    with it. They are shared: not to be written to."""

    squared: Tensor
    rows: Tensor
    columns: Tensor


def total(values: Tensor) -> float:
    """The sum of float32 ``values`` in float64."""
    if values.is_cpu:
        return float(np.add.reduce(values.numpy().ravel(), dtype=np.float64))  # in a fifth of torch's time
    return values.sum(dtype=torch.float64).item()


def every_pair(
    unit: Tensor, entries: int = BLOCK_ENTRIES, advance: Callable[[int], None] = lambda done: None
) -> Iterator[Block]:
    """The squared Euclidean distances of ``unit`` [N, D], every pair once, some at a time.

    Args:
        advance: is told now and then how many more rows are done.
    """
    distances, places = _Products(unit, unit), torch.arange(len(unit), device=unit.device)
    size = max(1, entries // len(unit))
    for start in range(0, len(unit), size):
        stop = min(start + size, len(unit))
        i, j = torch.triu_indices(stop - start, stop - start, 1, device=unit.device)
        yield Block(distances(slice(start, stop), slice(start, stop))[i, j], start + i, start + j)
        if stop < len(unit):
            squared = distances(slice(start, stop), slice(stop, None))
            yield Block(squared, places[start:stop, None], places[None, stop:])
        advance(stop - start)


def pairs_between(
    unit: Tensor,
    queries: Tensor,
    gallery: Tensor,
    passed: Callable[[slice], tuple[Tensor, Tensor]],
    entries: int = BLOCK_ENTRIES,
) -> Iterator[Block]:
    """The same of each of ``queries`` with each of ``gallery``, places in ``unit``.

    Args:
        passed: gives the pairs to leave out of a block of queries, as rows of it and places in ``gallery``.
    """
    if not len(queries) or not len(gallery):
        return
    distances, size = _Products(unit[queries], unit[gallery]), max(1, entries // len(gallery))
    for start in range(0, len(queries), size):
        some = slice(start, min(start + size, len(queries)))
        squared = distances(some, slice(None))
        keep = torch.ones_like(squared, dtype=torch.bool)
        keep[passed(some)] = False
        i, j = keep.nonzero(as_tuple=True)
        yield Block(squared[i, j], queries[start + i], gallery[j])


class _Products:
    """Squared distances as products in float64, around the mean of all rows; those too small for such to tell apart
    are computed from differences. What a tie is says :func:`tie_key`."""

    def __init__(self, one: Tensor, other: Tensor) -> None:
        self.one, self.other, mean = one, other, other.mean(0)
        rows, columns = one - mean, other - mean
        row_lengths, column_lengths = (of.square().sum(1, keepdim=True) for of in (rows, columns))
        ones = torch.ones_like
        self.rows = torch.cat([-2 * rows, row_lengths, ones(row_lengths)], dim=1)  # |r|² + |c|² − 2 r·c as one product
        self.columns = torch.cat([columns, ones(column_lengths), column_lengths], dim=1)
        longest = float(max(row_lengths.max(), column_lengths.max()))
        self.reach = max(longest * 2.0**-24, 2.0**-80)  # beyond it a product is as exact as float32, or nearly

    def __call__(self, some: slice, others: slice) -> Tensor:
        squared = (self.rows[some] @ self.columns[others].t()).float()
        if squared.min() >= self.reach:
            return squared
        near = squared.clamp_(min=0) < self.reach
        count = int(near.count_nonzero())
        if count > near.numel() // 64:
            return torch.where(near, all_squared_distances(self.one[some], self.other[others]), squared)
        if count:
            i, j = near.nonzero(as_tuple=True)
            squared[i, j] = squared_distances(self.one[some], self.other[others], i, j)
        return squared
