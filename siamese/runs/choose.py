"""Which run is meant by a directory: itself, or the best of those below it."""

from __future__ import annotations

import logging
from pathlib import Path

from siamese.decoding.names import counted
from siamese.errors import ConfigError, RunError, nearest, several
from siamese.paths import near
from siamese.runs.find import MARKS, find_runs
from siamese.runs.run import Run

log = logging.getLogger(__name__)


def chosen_run(directory: Path, by: str | None) -> Path:
    """``directory`` where it is a run, or the run below it that is the best ``by`` a measure of summary.json.

    Raises:
        ConfigError: for a directory that is none or holds no run; where it holds several and no measure is named, and
            where a measure is named for one run; for a measure that none of them has, and one of which neither more nor
            less is better.
        RunError: where none of its runs is completed.
    """
    if not directory.is_dir():
        beside = [one.name for one in directory.parent.iterdir()] if directory.parent.is_dir() else []
        what = "expected a run directory, found a file" if directory.exists() else "no such directory"
        raise ConfigError(f"{directory}: {what}{nearest(directory.name, beside)}")
    if any((directory / mark).exists() for mark in MARKS) or (directory / "checkpoints").is_dir():
        if by is not None:
            raise ConfigError(f"by={by}: chooses among several runs, and {directory} is one; leave it out")
        return directory
    runs, left_out = find_runs([directory])
    if not runs and not left_out:
        raise ConfigError(f"{directory}: holds no run; expected a run directory, or a folder of them")
    if not runs:
        reasons = several([f"{near(one.path)}: {one.reason}" for one in left_out], 3)
        raise RunError(f"{directory}: none of its {counted(len(left_out), 'run')} is completed ({reasons})")
    if left_out:
        names = several(near(one.path) for one in left_out)
        log.warning(
            "%s: %s not completed, and left out: %s", directory, counted(len(left_out), "run is", "runs are"), names
        )
    if by is None:
        if len(runs) + len(left_out) == 1:
            return runs[0].path
        names = several(near(run.path) for run in runs)
        raise ConfigError(
            f"{directory}: holds {counted(len(runs), 'run')} ({names}); expected one of them, or the measure that says "
            "which is the best, such as by=val/auc (--by val/auc on a command line)"
        )
    best = _best(directory, runs, by)
    log.info("%s: the best of %s by %s (%.4f)", near(best.path), counted(len(runs), "run"), by, best.metric(by))
    return best.path


def _best(directory: Path, runs: list[Run], by: str) -> Run:
    known = sorted({name for run in runs for name in run.summary})
    measured = [run for run in runs if by in run.summary and run.metric(by) is not None]
    if not measured:
        raise ConfigError(f"by={by}: none of the runs in {directory} has measured it{nearest(by, known)}")
    if len(measured) < len(runs):
        without = [near(run.path) for run in runs if run not in measured]
        log.warning(
            "by=%s: %s not measured it: %s", by, counted(len(without), "run has", "runs have"), several(without)
        )
    direction = measured[0].summary[by].get("direction")
    if direction not in ("min", "max"):
        raise ConfigError(f"by={by}: neither more nor less of it is better; expected another measure, such as val/auc")
    worth = {run: float(run.metric(by) or 0) * (1 if direction == "max" else -1) for run in measured}
    return max(sorted(measured, key=lambda run: str(run.path)), key=worth.__getitem__)
