"""runs.csv: one row a run of a study, made of run directories and read again without them."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.errors import RunError
from siamese.runs.files import atomic
from siamese.runs.run import Run
from siamese.study.plan import Plan

ROWS = "runs.csv"
FACTS = ("arm", "seed", "overrides", "plan", "data", "split", "git", "device", "packages", "seconds")
MEANS = ("train/gradient_cosine", "train/gradient_norm_ratio")  # of all epochs, from metrics.csv
MOST = 100_000  # rows


@dataclass(frozen=True)
class Row:
    """One run: its facts, as text, and its measures by name."""

    facts: Mapping[str, str]
    measures: Mapping[str, float]

    @property
    def place(self) -> tuple[str, int]:
        return self.facts["arm"], int(self.facts["seed"])


@dataclass(frozen=True)
class Collected:
    """What was found for a plan: its rows, the runs it asks for that are missing, and those it does not ask for."""

    rows: list[Row]
    missing: list[tuple[str, int]]
    outside: list[str]


def collect(plan: Plan, runs: Iterable[Run]) -> Collected:
    """The rows of the runs that ``plan`` asks for, of those whose directories are complete.

    Raises:
        RunError: for two runs of one arm and seed.
    """
    asked, found, outside = plan.asked(), dict[tuple[str, int], Row](), []
    for run in runs:
        arm, seed = run.config.get("study.arm"), run.config.get("seed")
        place = (arm, seed)
        if place not in asked:
            outside.append(f"{run.name} ({arm}, seed {seed})")
        elif place in found:
            raise RunError(f"{run.path}: a second run of {arm} with seed {seed}; name the folder of one sweep")
        else:
            found[place] = _row(plan, run)
    return Collected([found[place] for place in asked if place in found], [p for p in asked if p not in found], outside)


def write_rows(plan: Plan, rows: Sequence[Row], path: Path) -> None:
    """Write runs.csv, replaced whole; numbers are written so that they are read back to the last bit."""
    names = sorted({name for row in rows for name in row.measures})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FACTS, *names])
    for row in rows:
        values = [repr(row.measures[name]) if name in row.measures else "" for name in names]
        writer.writerow([*(row.facts[fact] for fact in FACTS), *values])
    with atomic(path) as file:
        file.write(text.getvalue().encode())


def read_rows(plan: Plan) -> list[Row]:
    """The rows of runs.csv beside the plan, in the plan's order.

    Raises:
        RunError: for a file that is missing, is no such table, or has a run that the plan does not ask for, or twice.
    """
    path = plan.path.parent / ROWS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except FileNotFoundError:
        raise RunError(f"{path}: there is none yet; siamese-study --collect RUNS makes it") from None
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: cannot be read ({error})") from None
    if len(lines) > MOST:
        raise RunError(f"{path}: expected at most {MOST:,} rows, found {len(lines):,}")
    rows, asked = {}, plan.asked()
    for number, line in enumerate(lines, 2):
        row = _read(line, f"{path}: line {number}")
        if row.place not in asked or row.place in rows:
            what = "is there twice" if row.place in rows else "is not in the plan"
            raise RunError(f"{path}: line {number}: {row.place[0]} with seed {row.place[1]} {what}")
        rows[row.place] = row
    return [rows[place] for place in asked if place in rows]


def _read(line: Mapping[str, str | None], at: str) -> Row:
    facts = {fact: line.get(fact) for fact in FACTS}
    if None in facts.values() or None in line:
        raise RunError(f"{at}: expected {', '.join(FACTS)} and measures")
    try:
        int(str(facts["seed"]))
        measures = {name: float(text) for name, text in line.items() if name not in FACTS and text}
    except ValueError as error:
        raise RunError(f"{at}: {error}") from None
    if infinite := [name for name, value in measures.items() if not math.isfinite(value)]:
        raise RunError(f"{at}: {infinite[0]}: expected a finite number, found {measures[infinite[0]]}")
    return Row({fact: str(text) for fact, text in facts.items()}, measures)


def _row(plan: Plan, run: Run) -> Row:
    def node(name: str) -> Mapping[str, Any]:
        found = run.manifest.get(name)
        return found if isinstance(found, Mapping) else {}

    arm = str(run.config["study.arm"])
    git, device = node("git"), node("device")
    measures = {name: value for name in run.summary if (value := run.metric(name)) is not None}
    for name in MEANS:
        if column := [float(row[name]) for row in run.rows if row.get(name)]:
            measures[name] = statistics.fmean(column)
    return Row(
        {
            "arm": arm,
            "seed": str(run.config["seed"]),
            "overrides": " ".join([*plan.words, *plan.arms[arm]]),
            "plan": str(run.config.get("study.digest") or ""),
            "data": str(node("data").get("fingerprint") or ""),
            "split": str(node("split").get("fingerprint") or ""),
            "git": str(git.get("sha") or "")[:10] + "+" * bool(git.get("dirty")),
            "device": f"{device.get('name') or device.get('type')} {device.get('precision')}",
            "packages": " ".join(f"{name}={version}" for name, version in node("packages").items()),
            "seconds": f"{sum(float(row['seconds']) for row in run.rows if row.get('seconds')):.1f}",
        },
        measures,
    )
