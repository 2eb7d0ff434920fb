"""Runs as read-only facts: a complete one, or why a directory is none."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from siamese.config.schema import TYPES
from siamese.config.validate import flatten
from siamese.config.values import check_type
from siamese.errors import ConfigError, RunError
from siamese.runs.arrays import array_shape, read_arrays
from siamese.runs.read import read_manifest, read_metrics, read_status, read_summary, read_values
from siamese.runs.tables import NAMES_OF_CLASSES, PER_CLASS, read_per_class

PREFIXES = {"validation": "val"}  # of the names in summary.json, where they are not the part's own
SETTLED = {"data.batch_size": int}  # what a command may leave open, and a run does not
STALE = 300  # seconds after which a heartbeat is no sign of life


@dataclass(frozen=True, eq=False)
class Run:
    """One complete run directory.

    Attributes:
        config: by dotted keys, in today's layout.
        manifest, summary: of manifest.json and summary.json.
        evaluation: the folder in ``evaluations`` that summary and arrays are of; None: they are the run's own.
    """

    path: Path
    config: dict[str, Any]
    manifest: dict[str, Any]
    summary: dict[str, dict[str, Any]]
    evaluation: str | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def measured(self) -> Path:
        """The folder of what was measured."""
        return self.path if self.evaluation is None else self.path / "evaluations" / self.evaluation

    def metric(self, name: str) -> float | None:
        """The value of a metric in summary.json, or of one class in per_class.csv; None where it has none."""
        value = self.summary[name].get("value") if name in self.summary else self.of_classes.get(name)
        return None if value is None else float(value)

    @property
    def of_classes(self) -> dict[str, float]:
        """What per_class.csv holds, as ``test/ellipse_area/CLASS``; nothing where it cannot be read, for the reason
        in :attr:`classes_unread`."""
        return self._per_class[0]

    @property
    def classes_unread(self) -> str | None:
        """Why per_class.csv is there and cannot be read."""
        return self._per_class[1]

    @cached_property
    def _per_class(self) -> tuple[dict[str, float], str | None]:
        try:
            rows = read_per_class(self.measured)
        except RunError as error:
            return {}, relative(error, self.measured)
        return {
            f"{PREFIXES.get(row['part'], row['part'])}/{column}/{row['class']}": float(value)
            for row in rows
            for column, value in row.items()
            if column not in (*PER_CLASS, *NAMES_OF_CLASSES) and value
        }, None

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of metrics.csv; none where it cannot be read, for the reason in :attr:`rows_unread`."""
        return self._metrics[0]

    @property
    def rows_unread(self) -> str | None:
        """Why metrics.csv is there and its rows cannot be read."""
        return self._metrics[1]

    @cached_property
    def _metrics(self) -> tuple[list[dict[str, str]], str | None]:
        try:
            return read_metrics(self.path / "metrics.csv"), None
        except RunError as error:
            return [], relative(error, self.path)

    def arrays(self, name: str, *keys: str) -> dict[str, np.ndarray] | None:
        """The arrays ``keys`` of arrays/NAME.npz; None where the file or one of them is missing or damaged."""
        try:
            return read_arrays(self.measured / "arrays" / f"{name}.npz", *keys)
        except RunError:
            return None

    def shape(self, name: str, key: str) -> tuple[int, ...] | None:
        """The shape of the array ``key`` of arrays/NAME.npz, which is not read; None where there is none."""
        try:
            return array_shape(self.measured / "arrays" / f"{name}.npz", key)
        except RunError:
            return None


@dataclass(frozen=True)
class LeftOut:
    """A run directory that takes no part, and why."""

    path: Path
    reason: str
    state: str = "unreadable"  # of status.json, where there is one


def read_run(path: Path) -> Run | LeftOut:
    """A complete run, or why it is none."""
    state = "unreadable"
    try:
        manifest = read_manifest(path)
        status = read_status(path)
        state = str(status["state"])
        if state != "completed":
            return LeftOut(path, _unfinished(path, status), state)
        config = _config(path)
        summary = read_summary(path)
        if not summary:
            raise RunError("summary.json: holds no metric")
    except RunError as error:
        return LeftOut(path, relative(error, path), state)
    return Run(path, config, manifest, summary)


def running(run: LeftOut) -> bool:
    """Whether a run that was left out may still be completed by a live process."""
    return run.state == "running" and _age(run.path / "status.json") < STALE


def relative(error: RunError, run: Path) -> str:
    """What ``error`` says of a file in ``run``, naming the file from there."""
    return str(error).replace(f"{run}{os.sep}", "")


def _config(path: Path) -> dict[str, Any]:
    """The configuration by dotted keys. It may be of another version: of the keys, those known today are checked.

    Raises:
        RunError: when it cannot be read, or a value is not of its key's type.
    """
    config = flatten(read_values(path))
    groups: dict[str, Any] = {key[: end.start()]: {} for key in config for end in re.finditer(r"\.", key)}
    values = config | groups
    try:
        for key in values.keys() & TYPES.keys():
            if values[key] is not None:  # whether a key may be null differs between versions
                check_type(key, values[key], SETTLED.get(key, TYPES[key]))
    except ConfigError as error:
        raise RunError(f"config.resolved.yaml: {error}") from None
    return config


def _unfinished(path: Path, status: Mapping[str, Any]) -> str:
    state = status["state"]
    words = [state]
    try:
        rows, most = read_metrics(path / "metrics.csv"), _config(path).get("trainer.max_epochs")
    except RunError:
        rows, most = [], None
    if rows:
        words.append(f"epoch {rows[-1]['epoch']}" + (f" of {most}" if most else ""))
    if state == "running":
        age = _age(path / "status.json")
        words.append(f"heartbeat {age:.0f} s ago" if age < STALE else f"no heartbeat for {age / 3600:.1f} h: killed?")
    if status.get("error"):
        words.append(str(status["error"]).splitlines()[0][:200])
    return ", ".join(words)


def _age(path: Path) -> float:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return math.inf
