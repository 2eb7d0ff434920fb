"""How a run directory is, read from its files and from who holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.errors import RunError
from siamese.runs.locks import holder
from siamese.runs.read import read_json, read_metrics

MAIN_METRICS = ("test/auc", "val/auc")


@dataclass(frozen=True)
class State:
    """What is known of a run.

    Attributes:
        name: new (nothing has begun), running, completed, failed, interrupted, or killed (it says
            that it runs, and no process holds it).
        says: why it failed, or which process holds it.
        seconds: of training and validation, over all its epochs so far.
        metric: test/auc, or else val/auc, of a completed run.
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
    """The same by what stands in the directory, whichever process still holds it."""
    try:
        status = read_json(directory / "status.json")
    except RunError:
        status = {}
    name, says = str(status.get("state", "new")), status.get("error")
    if name == "completed":
        try:
            summary = read_json(directory / "summary.json")
        except RunError as error:
            return State("failed", str(error))
        return State(name, None, _seconds(directory), _metric(summary))
    return State("killed" if name == "running" else name, says, _seconds(directory))


def _metric(summary: dict[str, Any]) -> tuple[str, float] | None:
    for name in MAIN_METRICS:
        try:
            return name, float(summary[name]["value"])
        except (KeyError, TypeError, ValueError):
            continue
    return None


def _seconds(directory: Path) -> float | None:
    rows = read_metrics(directory / "metrics.csv")
    seconds = [float(row["seconds"]) for row in rows if row.get("seconds")]
    return math.fsum(seconds) if seconds else None
