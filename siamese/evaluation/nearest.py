"""The nearest images of each query, in their exact order.

A first pass in float32 finds candidates; those whose order it cannot be sure of are looked at again in float64, from
differences. So the order, ties included, is that of :func:`siamese.evaluation.blocks.tie_key`, at the speed of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siamese.evaluation.blocks import (
    BLOCK_ENTRIES,
    NOTHING,
    Rows,
    all_squared_distances,
    squared_distances,
)

SLACK = 12  # candidates beyond those asked for, in which the last of them can be told from the next
VOTERS = 20  # of the nearest, the order of any two classes matters; beyond, only whether they are the query's
GROUP = 32  # distances that are looked at together first
MOST = 4096  # queries at a time
COLUMN = 0x7FFFFFFF


@dataclass(frozen=True)
class Search:
    """Which rows are looked for among which.

    Attributes:
        rows: all of them.
        queries: int64 [Q], places in ``rows``, ascending.
        gallery: int64 [G], places in ``rows``, ascending, so that a class is a slice.
        groups: int64 [N], of each row; a gallery image of the query's class and group is passed over. None passes
            over the query itself alone.
    """

    rows: Rows
    queries: np.ndarray
    gallery: np.ndarray
    groups: np.ndarray | None = None

    def relevant(self) -> np.ndarray:
        """The number of gallery images that each query should find, int64 [Q]."""
        labels, classes = self.rows.labels, len(self.rows.counts)
        found = np.bincount(labels[self.gallery], minlength=classes)[labels[self.queries]]
        if self.groups is None:
            return found - np.isin(self.queries, self.gallery)
        both, codes = np.unique(np.stack([labels, self.groups]), axis=1, return_inverse=True)
        codes = codes.ravel()
        passed = np.bincount(codes[self.gallery], minlength=both.shape[1])[codes[self.queries]]
        itself = np.isin(self.queries, self.gallery)  # which is one of those
        return found - np.where(self.groups[self.queries] < 0, itself, passed)


@dataclass(frozen=True)
class Ranked:
    """The nearest gallery images of some queries, nearest first; of those at one distance other classes come first.

    Attributes:
        queries: a slice of the queries.
        columns: int64 [b, K], places in the gallery.
        hits: bool [b, K], whether they are of the query's class.
        there: bool [b, K], false at the end of a row that has fewer.
        first: int64 [b], the rank, from 1, of the first image of the query's class; 0 where there is none.
        right: int64 [b], the place in the gallery of that image, or -1.
    """

    queries: slice
    columns: Tensor
    hits: Tensor
    there: Tensor
    first: Tensor
    right: Tensor


def ranked(
    search: Search,
    count: Callable[[slice], int],
    entries: int = BLOCK_ENTRIES,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda done: None,
) -> Iterator[Ranked]:
    """The nearest of every query, block by block.

    Args:
        count: how many of the nearest a block of queries needs.
        device: what the products are computed on.
        advance: is told after each block how many queries are done.
    """
    if not len(search.queries):
        return
    first_pass = _FirstPass(search, torch.device(device))
    total, size = len(search.queries), max(1, min(MOST, entries // max(1, len(search.gallery))))
    for start in range(0, total, size):
        some = slice(start, min(start + size, total))
        yield first_pass.rank(some, min(count(some), len(search.gallery)))
        advance(some.stop - some.start)


class PassedOver:
    """What a query must not find: itself, and its own group where there are groups.

    Attributes:
        of_queries, of_gallery: int64 [Q] and [G], their classes.
    """

    def __init__(self, search: Search, device: torch.device | str) -> None:
        labels = torch.from_numpy(search.rows.labels).to(device)
        self.of_queries, self.of_gallery = labels[search.queries], labels[search.gallery]
        place = np.full(len(labels), -1)
        place[search.gallery] = np.arange(len(search.gallery))
        self.itself = torch.from_numpy(place[search.queries]).to(device)
        self.groups = None
        if search.groups is not None:
            groups = torch.from_numpy(search.groups).to(device)
            self.groups = groups[search.queries], groups[search.gallery]

    def own(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The places in the gallery of the images of each query's class, int64 [b, R], and which of them there are."""
        first, last = torch.searchsorted(self.of_gallery, torch.stack([classes, classes + 1]))
        columns = first[:, None] + torch.arange(max(1, int((last - first).max())), device=first.device)
        there = columns < last[:, None]
        return torch.where(there, columns, 0), there

    def __call__(self, some: slice) -> tuple[Tensor, Tensor]:
        """Of a block of queries, rows of it and columns of the gallery."""
        itself = self.itself[some]
        row = (itself >= 0).nonzero()[:, 0]
        column = itself[row]
        if self.groups is None:
            return row, column
        own, theirs = self.groups[0][some, None], self.groups[1]
        columns, there = self.own(self.of_queries[some])
        same, place = (there & (theirs[columns] == own) & (own >= 0)).nonzero(as_tuple=True)
        return torch.cat([row, same]), torch.cat([column, columns[same, place]])


class _FirstPass:
    """Products in float32, of rows around their mean: ``|q|² + |g|² − 2 q·g`` as one product of rows with two more
    entries."""

    def __init__(self, search: Search, device: torch.device) -> None:
        unit = search.rows.unit.to(device)
        self.mean = unit.mean(0)
        self.queries, self.gallery = (_chosen(unit, which) for which in (search.queries, search.gallery))
        self.passed_over = PassedOver(search, device)
        self.of_queries, self.of_gallery = self.passed_over.of_queries, self.passed_over.of_gallery
        padded = -(-len(self.gallery) // GROUP) * GROUP
        self.columns = torch.zeros(padded, unit.shape[1] + 2, device=device)
        self.longest = 0.0
        for place in torch.arange(len(self.gallery), device=device).split(BLOCK_ENTRIES // 64):
            centred = self.gallery[place] - self.mean
            lengths = centred.square().sum(1, keepdim=True)
            self.columns[place] = torch.cat([centred, lengths, torch.ones_like(lengths)], dim=1).float()
            self.longest = max(self.longest, float(lengths.max().sqrt()))
        # Of a sum of n products in float32, in any order, and of its factors: n + 3 roundings of 2^-24.
        self.rounding = (self.columns.shape[1] + 3) * 2.0**-24
        self.buffer = torch.empty(0, device=device)

    def rank(self, some: slice, count: int) -> Ranked:
        queries, classes = self.queries[some], self.of_queries[some]
        squared, error = self._approximate(queries)
        passed = self.passed_over(some)
        squared[passed] = torch.inf
        wanted = min(count + SLACK, len(self.gallery))
        values, columns = _smallest(squared, wanted)
        columns.clamp_(max=len(self.gallery) - 1)  # of what is not there, any will do
        linked = values.diff(dim=1) <= 2 * error
        linked &= values[:, 1:].isfinite()
        hits = self.of_gallery[columns] == classes[:, None]
        unsure = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
        if wanted < len(self.gallery):  # else all are candidates
            unsure = linked[:, count - 1 :].all(1)
        exact = values.clamp_(min=0)
        i, j = self._mixed(linked, hits, columns).logical_and_(~unsure[:, None]).nonzero(as_tuple=True)
        exact[i, j] = squared_distances(queries, self.gallery, i, columns[i, j])
        keys = (exact.view(torch.int32).long() << 32) | (hits.long() << 31) | columns
        keys = keys.sort(dim=1).values[:, :count]
        if unsure.any():
            keys[unsure] = self._exactly(queries[unsure], classes[unsure], passed, unsure, count)
        columns, hits = keys & COLUMN, ((keys >> 31) & 1).bool()
        there = (keys >> 32) < _bits(torch.inf)
        hits &= there
        first = torch.where(hits.any(1), hits.byte().argmax(1) + 1, 0)
        right = torch.where(first > 0, columns.gather(1, (first - 1).clamp(min=0)[:, None])[:, 0], -1)
        self._find(squared, queries, classes, error, first, right)
        return Ranked(some, columns, hits, there, first, right)

    def _approximate(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances of a block of queries to the gallery, float32 [b, G], and by how much each row's may be
        wrong, [b, 1]."""
        centred = queries - self.mean
        lengths = centred.square().sum(1, keepdim=True)
        rows = torch.cat([-2 * centred, torch.ones_like(lengths), lengths], dim=1).float()
        if self.buffer.shape[:1] != queries.shape[:1]:
            self.buffer = torch.empty(len(queries), len(self.columns), device=queries.device)
        torch.mm(rows, self.columns.t(), out=self.buffer)
        self.buffer[:, len(self.gallery) :] = torch.inf
        return self.buffer, (self.rounding * (lengths.sqrt() + self.longest).square() + NOTHING).float()

    def _mixed(self, linked: Tensor, hits: Tensor, columns: Tensor) -> Tensor:
        """The candidates, of runs whose order is not sure, that matter: where a run holds hits and others, or near the
        front two classes."""
        codes = self.of_gallery[columns[:, : VOTERS + 1]]
        differ = hits.diff(dim=1)
        differ[:, :1] = True  # which the nearest is matters in itself
        differ[:, : codes.shape[1] - 1] |= codes.diff(dim=1) != 0
        runs = torch.cat([torch.zeros_like(hits[:, :1]), ~linked], dim=1).cumsum(1)
        matter = torch.zeros_like(runs).scatter_add_(1, runs[:, 1:], (linked & differ).long())
        return matter.gather(1, runs) > 0

    def _exactly(
        self, queries: Tensor, classes: Tensor, passed: tuple[Tensor, Tensor], which: Tensor, count: int
    ) -> Tensor:
        """The keys of the nearest of ``queries`` by all distances in float64."""
        found = torch.empty(len(queries), count, dtype=torch.long, device=queries.device)
        place = which.cumsum(0) - 1
        row, column = passed[0][which[passed[0]]], passed[1][which[passed[0]]]
        size = max(1, BLOCK_ENTRIES // 4 // len(self.gallery))
        for start in range(0, len(queries), size):
            some = slice(start, start + size)
            squared = all_squared_distances(queries[some], self.gallery)
            inside = (place[row] >= start) & (place[row] < start + len(squared))
            squared[place[row[inside]] - start, column[inside]] = torch.inf
            keys = squared.view(torch.int32).long() << 32
            keys |= (self.of_gallery == classes[some, None]).long() << 31
            keys |= torch.arange(keys.shape[1], device=keys.device)
            found[some] = keys.topk(count, largest=False).values
        return found

    def _find(
        self, squared: Tensor, queries: Tensor, classes: Tensor, error: Tensor, first: Tensor, right: Tensor
    ) -> None:
        """Fill in ``first`` and ``right`` of queries whose own class is not among the nearest."""
        missing = (first == 0).nonzero()[:, 0]
        if not len(missing):
            return
        columns, there = self.passed_over.own(classes[missing])
        own = squared[missing[:, None], columns].masked_fill_(~there, torch.inf)
        some = own.amin(1).isfinite()  # others have nothing to find
        missing, columns, there, own = missing[some], columns[some], there[some], own[some]
        i, j = (
            (own <= own.amin(1, keepdim=True) + 2 * error[missing]).logical_and_(own.isfinite()).nonzero(as_tuple=True)
        )
        exact = torch.full_like(own, torch.inf)
        exact[i, j] = squared_distances(queries, self.gallery, missing[i], columns[i, j])
        nearest, place = exact.min(1)
        right[missing] = columns.gather(1, place[:, None])[:, 0]
        squared[missing[:, None], torch.where(there, columns, columns[:, :1])] = (
            torch.inf
        )  # what is left: other classes
        for few in torch.arange(len(missing), device=missing.device).split(max(1, BLOCK_ENTRIES // squared.shape[1])):
            some, bound, margin = missing[few], nearest[few, None], error[missing[few]]
            others = squared[some]
            nearer, near = _count(others < bound - margin), _count(others <= bound + margin)
            unsure = (near > nearer).nonzero()[:, 0]
            others = others[unsure]
            between = (others >= (bound - margin)[unsure]).logical_and_(others <= (bound + margin)[unsure])
            i, j = between.nonzero(as_tuple=True)
            i = unsure[i]
            i = i[squared_distances(queries, self.gallery, some[i], j) <= bound[i, 0]]
            first[some] = nearer + torch.bincount(i, minlength=len(few)) + 1


def _count(chosen: Tensor) -> Tensor:
    """How many of each row, bool [n, groups * GROUP], are true: int64 [n]. By bytes first, which is much faster."""
    return chosen.view(len(chosen), chosen.shape[1] // GROUP, GROUP).sum(2, dtype=torch.uint8).sum(1)


def _smallest(squared: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` smallest of each row and their columns, smallest first.

    An entry that is among them is in a group whose least is among the ``count`` smallest such: there is no need to look
    at the others one by one.
    """
    groups = squared.shape[1] // GROUP
    if groups < 4 * count:
        return squared.topk(count, largest=False)
    grouped = squared.view(len(squared), groups, GROUP)
    near = grouped.amin(2).topk(count, largest=False, sorted=False).indices
    row = torch.arange(len(squared), device=squared.device)[:, None]
    values, place = grouped[row, near].view(len(squared), -1).topk(count, largest=False)
    return values, near.gather(1, place // GROUP) * GROUP + place % GROUP


def _chosen(unit: Tensor, which: np.ndarray) -> Tensor:
    """Those rows; no copy of all."""
    return unit if len(which) == len(unit) else unit[torch.from_numpy(which)]


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.int32))
