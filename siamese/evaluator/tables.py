"""Tables of an evaluation: per_class.csv and failures.csv."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from siamese.evaluation.measure import Measured
from siamese.evaluator.part import Part, worst
from siamese.runs.directory import RunDirectory

PARTS = ("validation", "test")
OF_CLASSES = ("nearest_class", "taken_for")  # columns that are classes

Rows = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Kept:
    """Rows of tables that were there before."""

    classes: Rows = ()
    failures: Rows = ()


def class_rows(part: Part, found: Measured) -> list[dict[str, str]]:
    """The rows of per_class.csv of ``part``: its classes, how many images each has, and what was measured of it."""
    names = part.class_names
    counts = np.bincount(part.labels[part.labels >= 0], minlength=len(names))
    rows = [{"part": part.name, "class": name, "images": str(counts[label])} for label, name in enumerate(names)]
    for column, of_classes in found.per_class.items():
        for row, value in zip(rows, of_classes.tolist(), strict=True):
            if column in OF_CLASSES:
                row[column] = "" if value < 0 else names[value]
            else:
                row[column] = _number(value)
    return rows


def failure_rows(part: Part, found: Measured) -> Iterator[dict[str, str]]:
    """The rows of failures.csv of ``part``: every query whose nearest image is of another class, the worst first."""
    of, names = found.queries, part.class_names
    for i in worst(found):
        nearest, right = of["nearest"][i], of["right"][i]
        label = int(part.labels[nearest])
        yield {
            "part": part.name,
            "id": str(part.ids[of["query"][i]]),
            "class": names[part.labels[of["query"][i]]],
            "nearest": str(part.ids[nearest]),
            "nearest_class": names[label] if label >= 0 else "",
            "cosine_nearest": _number(of["cosine_nearest"][i].item()),
            "right": str(part.ids[right]),
            "cosine_right": _number(of["cosine_right"][i].item()),
            "rank": str(of["first"][i]),
        }


def write_table(run: RunDirectory, name: str, rows: Rows) -> None:
    """Write NAME.csv, validation before test; what one part alone has is empty in the others. Without
    rows there is no such file, nor one from before."""
    columns = dict.fromkeys(column for row in rows for column in row)
    ordered = sorted(rows, key=lambda row: PARTS.index(row["part"]))
    if rows:
        run.table(name, [{column: row.get(column, "") for column in columns} for row in ordered])
    else:
        (run.path / f"{name}.csv").unlink(missing_ok=True)


def _number(value: float) -> str:
    """Empty where there is none."""
    return repr(value) if math.isfinite(value) else ""
