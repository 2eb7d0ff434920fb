"""Where the runs of a group fail: the classes and the queries that are the worst over its seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from siamese.compare.classes import MOST_GROUPS, OfClasses, images_text, mean_of_runs, of_classes, part_of
from siamese.compare.comparison import Comparison
from siamese.compare.grouping import Group
from siamese.errors import RunError
from siamese.runs.read import is_number
from siamese.runs.run import Run, relative
from siamese.runs.tables import read_failures, read_per_class

MEASURES = ("recall_at_1", "map_at_r")  # of classes: the first that there is
MOST_CLASSES, MOST_QUERIES = 10, 20  # shown of a group

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class WorstClass:
    """One class: the mean of its measure over the ``seeds`` that have it."""

    name: str
    images: str
    value: float
    seeds: int


@dataclass(frozen=True)
class WorstQuery:
    """One query: in how many of the runs that ``tested`` it its nearest image is of another class, and of which most
    often."""

    name: str
    of_class: str
    failed: int
    tested: int
    taken_for: str


@dataclass(frozen=True, eq=False)
class Failures:
    """The worst classes by ``measure`` and the worst queries of a group in ``part``, and how many there are of each."""

    group: Group
    part: str
    measure: str
    classes: list[WorstClass]
    all_classes: int
    queries: list[WorstQuery]
    all_queries: int


@dataclass
class _Query:
    """What the runs of a group say of one query."""

    of_class: str
    taken_for: Counter[str] = field(default_factory=Counter)
    ranks: list[float] = field(default_factory=list)
    tested: int = 0


def group_failures(c: Comparison) -> tuple[list[Failures], list[str]]:
    """The failures of each group, on test images where these were measured, else on validation images; and, in words,
    which runs have no such tables or damaged ones, where any run has some."""
    part = part_of(c)
    found: list[Failures] = []
    absent: dict[str, None] = {}
    damaged: dict[str, None] = {}
    for group in c.groups[:MOST_GROUPS]:
        tables: dict[Run, Rows] = {}
        for run in group.members:
            try:
                tables[run] = read_per_class(run.measured)
            except RunError as error:
                damaged[f"{run.name} ({relative(error, run.measured)})"] = None
        lacking = [run for run, rows in tables.items() if all(row["part"] != part for row in rows)]
        absent |= {run.name: None for run in lacking}
        tables = {run: rows for run, rows in tables.items() if run not in lacking}
        measure = next((m for m in MEASURES if any(m in rows[0] for rows in tables.values())), None)
        if measure is None:
            continue
        classes, all_classes = _worst_classes(group, tables, part, measure, damaged)
        queries, all_queries = _worst_queries(tables, part, damaged)
        if all_classes or all_queries:
            found.append(Failures(group, part, measure, classes, all_classes, queries, all_queries))
    return found, [*damaged, *(absent if found or damaged else ())]


def _worst_classes(
    group: Group, tables: Mapping[Run, Rows], part: str, measure: str, damaged: dict[str, None]
) -> tuple[list[WorstClass], int]:
    """The lowest means over seeds, and how many are below 1."""
    by_class: dict[str, list[tuple[int, float]]] = {}
    for runs in group.runs.values():
        read = [_of_classes(run, tables[run], part, measure, damaged) for run in runs if run in tables]
        for name, own in (mean_of_runs(read) if read else {}).items():
            by_class.setdefault(name, []).append(own)
    every = []
    for name, seeds in by_class.items():
        counts, values = zip(*seeds, strict=True)
        # Of as low ones those of the most images first: they are the least by chance.
        every.append((float(np.mean(values)), -max(counts), name, images_text(counts), len(seeds)))
    poor = sorted(one for one in every if one[0] < 1)
    return [WorstClass(name, images, value, n) for value, _, name, images, n in poor[:MOST_CLASSES]], len(poor)


def _of_classes(run: Run, rows: Rows, part: str, measure: str, damaged: dict[str, None]) -> OfClasses:
    try:
        return of_classes(rows, part, measure)
    except RunError as error:
        damaged[f"{run.name} ({error})"] = None
        return {}


def _worst_queries(tables: Mapping[Run, Rows], part: str, damaged: dict[str, None]) -> tuple[list[WorstQuery], int]:
    """Those that fail in the most runs, of as many those that fewer tested and whose own class comes later; and how
    many fail anywhere."""
    queries: dict[str, _Query] = {}
    tested: list[set[str]] = []
    for run, rows in tables.items():
        try:
            failed = dict(_failed(run, rows, part))
            ids = _tested(run, part)
        except RunError as error:
            damaged[f"{run.name} ({relative(error, run.measured)})"] = None
            continue
        for name, row in failed.items():
            query = queries.setdefault(name, _Query(row["class"]))
            query.taken_for[row["nearest_class"]] += 1
            query.ranks.append(float(row["rank"]))
        tested.append(ids | failed.keys())
    for name, query in queries.items():
        query.tested = sum(name in ids for ids in tested)
    order = sorted(queries, key=lambda q: (-len(queries[q].ranks), queries[q].tested, -np.mean(queries[q].ranks), q))
    return [_worst(name, queries[name]) for name in order[:MOST_QUERIES]], len(order)


def _worst(name: str, query: _Query) -> WorstQuery:
    taken_for = min(query.taken_for, key=lambda other: (-query.taken_for[other], other))
    return WorstQuery(name, query.of_class, len(query.ranks), query.tested, taken_for)


def _failed(run: Run, classes: Rows, part: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The failed queries of ``run`` by their ids.

    Raises:
        RunError: where there are none though a class of ``classes`` has some, or a rank is no number.
    """
    rows = read_failures(run.measured)
    own = [(number, row) for number, row in enumerate(rows, 2) if row["part"] == part]
    if not own and any(float(row.get("recall_at_1") or 1) < 1 for row in classes if row["part"] == part):
        raise RunError(f"failures.csv: holds none of the failed queries of {part}")
    for number, row in own:
        if not is_number(row["rank"]):
            raise RunError(f"failures.csv: row {number}: rank: expected a number, found {row['rank']!r:.60}")
        yield row["id"], row


def _tested(run: Run, part: str) -> set[str]:
    """The ids of the images of ``part``.

    Raises:
        RunError: where they cannot be read.
    """
    arrays = run.arrays(part, "ids")
    if arrays is None:
        raise RunError(f"arrays/{part}.npz: holds no ids that can be read, so its queries are not known")
    return {str(name) for name in arrays["ids"].ravel().tolist()}
