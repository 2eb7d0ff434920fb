"""What a run that goes on needs, made whole before it trains; what cannot be is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from siamese.data import SiameseData
from siamese.errors import RunError
from siamese.runs.arrays import read_arrays
from siamese.runs.checkpoint import best_epoch, carried_rows, read_checkpoint, require_own, restore, trained_epochs
from siamese.runs.directory import RunDirectory
from siamese.runs.files import set_aside
from siamese.runs.read import read_manifest
from siamese.training.module import SiameseModule
from siamese.training.samples import show_samples

log = logging.getLogger(__name__)

Rows = Sequence[Mapping[str, str]]


def settle(run: RunDirectory, start: Path | None, module: SiameseModule, data: SiameseData, epochs: int) -> None:
    """Make metrics.csv, best.ckpt and arrays/samples.npz whole again where they are missing or damaged.

    The rows of metrics.csv are in the checkpoint. The best weights are, where they are those of another checkpoint.
    Where they are not, a warning says so, and the best epoch from here on counts.

    Args:
        start: the checkpoint that training goes on from, if there is one yet.
        epochs: that the run is to train for.

    Raises:
        RunError: for a checkpoint that is not of this run's model, and what cannot be written.
    """
    checkpoint = None
    if start is not None:
        restore(module, start)  # Lightning does too, and refuses in many lines
        checkpoint = read_checkpoint(start)
    try:
        read_arrays(run.path / "arrays" / "samples.npz", "images", "labels", "class_names")
    except RunError:
        show_samples(run, data)
    _settle_history(run, start, checkpoint)
    if start is not None and checkpoint is not None:
        _settle_best(run, start, checkpoint, epochs)


def _settle_history(run: RunDirectory, start: Path | None, checkpoint: dict[str, Any] | None) -> None:
    path, trained = run.path / "metrics.csv", -1
    carried: Rows | None = None
    if start is not None and checkpoint is not None:
        carried, trained = carried_rows(start, checkpoint), trained_epochs(checkpoint)[0]
    found: Rows = []
    problem = ""
    try:
        found = run.history()
    except RunError as error:
        problem = f"{error}"
        aside = set_aside(path)
        problem += f"; it is now {aside.name}"
    there = {int(row["epoch"]) for row in found}
    missing = [epoch for epoch in range(trained + 1) if epoch not in there]
    if start is None or (carried is not None and _same(found[: len(carried)], carried)):
        if problem:
            log.warning("%s", problem)
        if start is None and there and max(there) > 1:
            last = max(there)
            log.warning("%s: none is left of the %d epochs before; training begins again", run.checkpoints, last)
        return
    if carried is None:
        if missing:
            log.warning(
                "%s: the rows of %s are gone, for %s is of an earlier version and does not carry them",
                problem or path,
                _named(missing),
                start.name,
            )
        return
    if not problem:
        differs = not _same(found, carried[: len(found)])
        problem = f"{path}: {f'{_named(missing)} missing' if missing else 'not the rows of this run'}"
        if found and differs:
            problem += f"; it is now {set_aside(path).name}"
    run.write_history(carried)
    log.warning("%s; made again from %s", problem, start.name)


def _settle_best(run: RunDirectory, start: Path, checkpoint: dict[str, Any], epochs: int) -> None:
    best, (trained, ended) = best_epoch(checkpoint), trained_epochs(checkpoint)
    path = run.checkpoints / "best.ckpt"
    if best is None or _is_of(run, path, best):
        return
    others = sorted(other for other in run.checkpoints.glob("*.ckpt") if other not in (start, path))
    whole = next((other for other in (start, *others) if _is_of(run, other, best)), None)
    if whole is not None:  # a kill may have come before it was named so
        run.name_checkpoint(whole, path.name)
        log.info("%s: made again from %s, which is of the best epoch, %d", path, whole.name, best)
        return
    what = f"damaged or not of epoch {best}; it is now {set_aside(path).name}" if path.exists() else "missing"
    if ended and trained >= epochs:
        run.name_checkpoint(start, path.name)
        log.warning("%s: %s, and no epoch is left to train; %s is taken for it", path, what, start.name)
    else:
        gone = f"so that the weights of the best epoch, {best}, are gone"
        log.warning("%s: %s, %s; the best from epoch %d on counts", path, what, gone, trained + 1)


def _is_of(run: RunDirectory, path: Path, epoch: int) -> bool:
    """Whether ``path`` is a checkpoint of this run, saved at the end of ``epoch``."""
    checkpoint = read_checkpoint(path) if path.is_file() else None
    if checkpoint is None:
        return False
    try:
        require_own(path, checkpoint, str(read_manifest(run.path)["run_id"]))
        return trained_epochs(checkpoint) == (epoch, True)
    except (RunError, KeyError, TypeError, ValueError):
        return False


def _same(some: Rows, others: Rows) -> bool:
    """Whether the rows hold the same; a column that only one of them has is empty there."""
    return [{k: v for k, v in row.items() if v} for row in some] == [
        {k: v for k, v in row.items() if v} for row in others
    ]


def _named(epochs: Sequence[int]) -> str:
    """``epoch 3``, or ``epochs 0 to 3`` of those that follow one another, or how many there are."""
    if len(epochs) == 1:
        return f"epoch {epochs[0]}"
    if epochs[-1] - epochs[0] == len(epochs) - 1:
        return f"epochs {epochs[0]} to {epochs[-1]}"
    return f"{len(epochs)} epochs from {epochs[0]} to {epochs[-1]}"
