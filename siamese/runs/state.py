"""How a run directory is, read from its files and from who holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from siamese.errors import RunError
from siamese.runs.locks import holder
from siamese.runs.read import holds_a_run, read_metrics, read_status, read_summary

MAIN_METRICS = ("test/auc", "val/auc", "test/view_recall_at_1", "val/view_recall_at_1")


@dataclass(frozen=True)
class State:
    """What is known of a run.

    Attributes:
        name: new (nothing has begun), running, completed, failed, interrupted, or killed (it says
            that it runs, and no process holds it).
        says: why it failed, or which process holds it.
        seconds: of training and validation, over all its epochs so far.
        metric: the first of MAIN_METRICS that a completed run has.
    """

    name: str
    says: str | None = None
    seconds: float | None = None
    metric: tuple[str, float] | None = None

    @property
    def completed(self) -> bool:
        return self.name == "completed"


def state(directory: Path) -> State:
    """The state of the run in ``directory``."""
    if (held := holder(directory)) is not None:
        return State("running", held, _seconds(directory))
    return recorded(directory)


def recorded(directory: Path) -> State:
    """The same by what stands in the directory, whichever process still holds it. A run whose status, or the summary
    of which, cannot be read has failed, for that reason."""
    try:
        status = read_status(directory)
        metric = _metric(directory) if status["state"] == "completed" else None
    except RunError as error:
        return State("failed", str(error)) if holds_a_run(directory) else State("new")
    name = "killed" if status["state"] == "running" else status["state"]
    return State(name, status.get("error"), _seconds(directory), metric)


def _metric(directory: Path) -> tuple[str, float] | None:
    summary = read_summary(directory)
    found = ((name, summary.get(name, {}).get("value")) for name in MAIN_METRICS)
    return next(((name, float(value)) for name, value in found if value is not None), None)


def _seconds(directory: Path) -> float | None:
    try:
        rows = read_metrics(directory / "metrics.csv")
    except RunError:  # it says how long the run took, and nothing else of its state
        return None
    seconds = [float(row["seconds"]) for row in rows if row.get("seconds")]
    return math.fsum(seconds) if seconds else None
