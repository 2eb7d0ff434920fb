"""Which classes a group won and lost against its baseline, by what per_class.csv of each run says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siamese.compare.comparison import Comparison
from siamese.compare.grouping import Group
from siamese.errors import RunError
from siamese.runs.run import Run, relative
from siamese.runs.tables import read_per_class

MEASURE = "recall_at_1"
MOST_CLASSES = 10  # shown of those won, and of those lost
MOST_GROUPS = 24  # that have such a table
OfClasses = dict[str, tuple[int, float]]  # images and a share of each class, by its name


@dataclass(frozen=True)
class Change:
    """One class: its recall_at_1 in the group and in the baseline, means over ``seeds`` paired seeds."""

    name: str
    images: str
    own: float
    baseline: float
    seeds: int

    @property
    def change(self) -> float:
        return self.own - self.baseline


@dataclass(frozen=True, eq=False)
class Changes:
    """The classes that ``group`` won most and lost most, of all ``classes`` that both have measured in ``part``."""

    group: Group
    baseline: Group
    part: str
    won: list[Change]
    lost: list[Change]
    classes: int
    better: int
    worse: int


def class_changes(c: Comparison) -> tuple[list[Changes], list[str]]:
    """The changes of each group that has a baseline, on test images where these were measured, else on validation
    images; and, in words, which runs have none and why."""
    part = part_of(c)
    pairs = {d.group.number: d.baseline for d in c.differences}
    compared = [(g, pairs[g.number]) for g in c.groups if g.number in pairs][:MOST_GROUPS]
    missing: dict[str, None] = {}
    baselines: dict[Run, OfClasses] = {}
    for run in {run: None for _, baseline in compared for run in baseline.members}:
        baselines[run] = _read(run, part, missing)
    found = []
    for group, baseline in compared:
        by_class: dict[str, list[tuple[int, float, float]]] = {}
        for unit in [unit for unit in group.runs if unit in baseline.runs]:
            own = mean_of_runs([_read(run, part, missing) for run in group.runs[unit]])
            other = mean_of_runs([baselines[run] for run in baseline.runs[unit]])
            for name in own.keys() & other.keys():
                by_class.setdefault(name, []).append((own[name][0], own[name][1], other[name][1]))
        if by_class:
            found.append(_changes(group, baseline, part, by_class))
    return found, list(missing)


def part_of(c: Comparison) -> str:
    """The images whose classes are shown: of test where any run measured these, else of validation."""
    return "test" if any(name.startswith("test/") for run in c.runs for name in run.summary) else "validation"


def images_text(counts: Sequence[int]) -> str:
    """How many images a class has, in runs that may have ``counts`` of their own."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _changes(group: Group, baseline: Group, part: str, by_class: dict[str, list[tuple[int, float, float]]]) -> Changes:
    every = []
    for name, seeds in by_class.items():
        counts, own, other = zip(*seeds, strict=True)
        every.append(
            (max(counts), Change(name, images_text(counts), float(np.mean(own)), float(np.mean(other)), len(seeds)))
        )
    # Of as large changes those of the most images first: they are the least by chance.
    every.sort(key=lambda one: (-abs(one[1].change), -one[0], one[1].name))
    better = [change for _, change in every if change.change > 0]
    worse = [change for _, change in every if change.change < 0]
    return Changes(
        group, baseline, part, better[:MOST_CLASSES], worse[:MOST_CLASSES], len(every), len(better), len(worse)
    )


def mean_of_runs(found: Sequence[OfClasses]) -> OfClasses:
    """The means over runs that share a group and a seed, of the classes that all of them have."""
    if len(found) == 1:
        return found[0]
    shared = set(found[0]).intersection(*found[1:])
    return {name: (found[0][name][0], float(np.mean([of[name][1] for of in found]))) for name in shared}


def _read(run: Run, part: str, missing: dict[str, None]) -> OfClasses:
    """What ``run`` says of the classes of ``part``; a line in ``missing`` where it says nothing."""
    try:
        rows = read_per_class(run.measured)
        if not rows:
            missing[run.name] = None
        return of_classes(rows, part, MEASURE)
    except RunError as error:
        missing[f"{run.name} ({relative(error, run.measured)})"] = None
        return {}


def of_classes(rows: Sequence[dict[str, str]], part: str, measure: str) -> OfClasses:
    """The classes of ``part`` in ``rows`` of per_class.csv whose ``measure``, a share, has a value.

    Raises:
        RunError: where the table has no such measure, or one that is no share.
    """
    if rows and measure not in rows[0]:
        raise RunError(f"per_class.csv: has no column {measure}")
    found: OfClasses = {}
    for number, row in enumerate(rows, 2):
        if row["part"] != part or not row[measure]:
            continue
        if not row["images"]:
            raise RunError(f"per_class.csv: row {number}: images: expected a number, found nothing")
        found[row["class"]] = (int(float(row["images"])), float(row[measure]))
        if not 0 <= found[row["class"]][1] <= 1:
            raise RunError(f"per_class.csv: row {number}: {measure}: expected a share, found {row[measure]:.30}")
    return found
