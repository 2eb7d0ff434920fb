"""runs.csv: one row a run of a study, made of run directories and read again without them."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.compare.tables import as_csv
from siamese.config.schema import is_scientific
from siamese.errors import RunError
from siamese.runs.bounds import read_json
from siamese.runs.files import atomic
from siamese.runs.run import Run
from siamese.study.plan import Plan

ROWS = "runs.csv"
FACTS = ("arm", "seed", "overrides", "plan", "data", "split", "git", "device", "packages", "seconds")
BY_EPOCH = ("train/gradient_cosine", "train/gradient_norm_ratio")  # from metrics.csv: of each epoch, and their mean
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


def collect(plan: Plan, runs: Iterable[Run], kept: Iterable[Row] = (), *, pilot: bool = False) -> Collected:
    """The rows of the runs that ``plan`` asks for (where ``pilot``, for its pilot), of those whose directories are
    complete, and of the other runs those of ``kept``.

    Raises:
        RunError: for two runs of one arm and seed, and for runs of one arm that were asked for otherwise.
    """
    asked, found, outside = plan.asked(pilot=pilot), dict[tuple[str, int], Row](), []
    for run in runs:
        arm, seed = run.config.get("study.arm"), run.config.get("seed")
        place = (arm, seed)
        if place not in asked:
            outside.append(f"{run.name} ({arm}, seed {seed})")
        elif place in found:
            raise RunError(f"{run.path}: a second run of {arm} with seed {seed}; name the folder of one sweep")
        else:
            found[place] = _row(run)
    found = {row.place: row for row in kept} | found
    first: dict[str, Row] = {}
    for row in found.values():
        alike = first.setdefault(row.facts["arm"], row)
        if _science(row.facts["overrides"].split()) != _science(alike.facts["overrides"].split()):
            raise RunError(
                f"{row.facts['arm']}: seed {row.facts['seed']} was run with {row.facts['overrides']}, and seed "
                f"{alike.facts['seed']} with {alike.facts['overrides']}; the runs of an arm differ by their seed alone"
            )
    return Collected([found[place] for place in asked if place in found], [p for p in asked if p not in found], outside)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write runs.csv, replaced whole; numbers are written so that they are read back to the last bit."""
    names = sorted({name for row in rows for name in row.measures})
    with atomic(path) as file:
        file.write(as_csv({**row.facts, **{name: row.measures.get(name) for name in names}} for row in rows).encode())


def rows_so_far(plan: Plan) -> list[Row]:
    """The rows of runs.csv beside the plan, none before there is one; raises as :func:`read_rows` does."""
    return read_rows(plan) if (plan.path.parent / ROWS).exists() else []


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


def _row(run: Run) -> Row:
    def node(name: str) -> Mapping[str, Any]:
        found = run.manifest.get(name)
        return found if isinstance(found, Mapping) else {}

    git, device = node("git"), node("device")
    measures = {name: value for name in run.summary if (value := run.metric(name)) is not None}
    for name in BY_EPOCH:
        if epochs := {row["epoch"]: float(row[name]) for row in run.rows if row.get(name)}:
            measures[name] = statistics.fmean(epochs.values())
            measures |= {f"{name}/epoch_{epoch}": value for epoch, value in epochs.items()}
    return Row(
        {
            "arm": str(run.config["study.arm"]),
            "seed": str(run.config["seed"]),
            "overrides": " ".join(_overrides(run)),
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


def _overrides(run: Run) -> list[str]:
    """What was asked of ``run`` beside its seed, as far as it is science: as its sweep has it, not as the plan may have
    it since.

    Raises:
        RunError: where no sweep says.
    """
    path = run.path.parent / "sweep.json"
    jobs = read_json(path).get("jobs")
    words = jobs.get(run.name) if isinstance(jobs, dict) else None
    if not isinstance(words, list):
        raise RunError(
            f"{path}: does not say how {run.name} was asked for; expected the runs where their sweep left them"
        )
    return _science(map(str, words))


def _science(words: Iterable[str]) -> list[str]:
    """Those of ``words`` that say what is trained: not the seed, nor the device, which has a column of its own."""
    keys = [(word, word.lstrip("~+").partition("=")[0]) for word in words]
    return [word for word, key in keys if is_scientific(key) and key not in ("seed", "device")]
