"""Reading the tables of a run or of an evaluation: single classes, single queries, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamese.errors import RunError
from siamese.runs.bounds import parse_csv, read_json, read_text, require_kinds
from siamese.runs.read import LARGEST_TABLE, is_number

PER_CLASS = ("part", "class", "images")  # the first columns of per_class.csv; the others are what was measured
NAMES_OF_CLASSES = ("part", "class", "nearest_class", "taken_for")
FAILURES = ("part", "id", "class", "nearest", "nearest_class", "cosine_nearest", "right", "cosine_right", "rank")
EVALUATION: dict[str, type | tuple[type, ...]] = {
    "data": str,
    "root": (str, type(None)),
    "checkpoint": str,
    "epoch": int,
    "fingerprint": str,
    "split": dict,
    "images": int,
    "classes": int,
    "run_id": str,
    "time": str,
}


def read_per_class(run: Path) -> list[dict[str, str]]:
    """The rows of per_class.csv, as text, a class of a part each; none where there is no such file.

    Raises:
        RunError: when it is there and cannot be read.
    """
    path = run / "per_class.csv"
    rows = _rows(path, PER_CLASS)
    for number, row in enumerate(rows, 2):
        for column, value in row.items():
            if column not in NAMES_OF_CLASSES and value and not is_number(value):
                raise RunError(f"{path}: row {number}: {column}: expected a number, found {value!r:.60}")
    return rows


def read_failures(run: Path) -> list[dict[str, str]]:
    """The rows of failures.csv, as text, a query each; none where there is no such file.

    Raises:
        RunError: when it is there and cannot be read.
    """
    return _rows(run / "failures.csv", FAILURES)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that has ``columns``; none where there is no such file."""
    if not path.exists():
        return []
    rows = parse_csv(read_text(path, LARGEST_TABLE), path)
    for row in rows[:1]:  # all have the same
        if missing := [column for column in columns if column not in row]:
            raise RunError(f"{path}: has no column {missing[0]}; expected {', '.join(columns)}")
    return rows


def read_evaluation(folder: Path) -> dict[str, Any] | None:
    """evaluation.json, which says what was measured in ``folder``; None where there is none.

    Raises:
        RunError: when it is there and cannot be read.
    """
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    found = read_json(path)
    if missing := [key for key in EVALUATION if key not in found]:
        raise RunError(f"{path}: has no {missing[0]}")
    require_kinds(path, found, EVALUATION)
    return found
