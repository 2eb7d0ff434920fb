"""Run directories as read-only facts: the complete ones, and what was left out and why."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from siamese.config.schema import SCHEMA_VERSION
from siamese.config.validate import flatten
from siamese.errors import ConfigError, RunError
from siamese.runs.read import read_json, read_metrics

MARKS = ("manifest.json", "status.json", "config.resolved.yaml", ".hydra")  # any of them makes a run directory
STALE = 300  # seconds after which a heartbeat is no sign of life
LARGEST_TEXT = 4 * 2**20  # bytes of a configuration, manifest or summary; theirs have some thousands
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast


@dataclass(frozen=True, eq=False)
class Run:
    """One complete run directory."""

    path: Path
    config: dict[str, Any]  # dotted keys
    manifest: dict[str, Any]
    summary: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration by dotted keys, and what follows from it."""
        return self.config | {
            "effective_batch": effective_batch(self.config),
            "git_sha": _text(self.manifest.get("git"), "sha"),
            "directory": str(self.path.parent),
        }

    def metric(self, name: str) -> float | None:
        """The value of a metric in summary.json; None where it has none."""
        value = self.summary.get(name, {}).get("value")
        return float(value) if value is not None and math.isfinite(value) else None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The complete rows of metrics.csv."""
        try:
            return read_metrics(self.path / "metrics.csv")
        except (OSError, ValueError):
            return []

    def arrays(self, name: str, *keys: str) -> dict[str, np.ndarray] | None:
        """The arrays ``keys`` of arrays/NAME.npz; None where the file or one of them is missing or unreadable."""
        try:
            with np.load(self.path / "arrays" / f"{name}.npz", allow_pickle=False) as file:
                return {key: file[key] for key in keys}
        except Exception:  # a damaged file raises whatever zipfile, zlib or numpy meet first
            return None


@dataclass(frozen=True)
class LeftOut:
    """A run directory that takes no part, and why."""

    path: Path
    reason: str
    state: str = "unreadable"  # of status.json, where there is one


DERIVED = ("effective_batch", "git_sha", "directory")  # settings that are no key of a configuration


def effective_batch(config: Mapping[str, Any]) -> int | None:
    """Tuples behind one optimizer step: micro-batch × window × devices."""
    factors = [config.get(k) for k in ("data.batch_size", "trainer.accumulate_grad_batches")]
    factors.append(config.get("device.devices", 1))
    return math.prod(factors) if all(isinstance(f, int) for f in factors) else None  # type: ignore[arg-type]


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Every run directory at or below ``paths``: the complete ones, and the others with the reason.

    Raises:
        ConfigError: for a path that is no directory.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise ConfigError(f"{path}: expected a run directory or a folder of them, found {_what(path)}")
        for folder, folders, files in os.walk(path):
            if any(mark in files or mark in folders for mark in MARKS):
                found.setdefault(Path(folder).resolve())
                folders.clear()
            folders[:] = sorted(name for name in folders if not name.startswith("."))
    results = [read_run(path) for path in found]
    return [r for r in results if isinstance(r, Run)], [r for r in results if isinstance(r, LeftOut)]


def read_run(path: Path) -> Run | LeftOut:
    """A complete run, or why it is none."""
    state = "unreadable"
    try:
        manifest = _object(path / "manifest.json")
        version = manifest.get("schema_version")
        if str(version).split(".")[0] != str(SCHEMA_VERSION):
            return LeftOut(path, f"schema version {version}; this reads version {SCHEMA_VERSION}", "other version")
        status = _object(path / "status.json")
        state = str(status.get("state"))
        if state != "completed":
            return LeftOut(path, _unfinished(path, status), state)
        config = read_config(path / "config.resolved.yaml")
        summary = _object(path / "summary.json")
        for name, entry in summary.items():
            value = entry.get("value", "nothing") if isinstance(entry, dict) else "nothing"
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise RunError(f"summary.json: {name} has no number for its value")
        if not summary:
            raise RunError("summary.json: holds no metric")
    except (RunError, OSError) as error:
        return LeftOut(path, str(error).replace(f"{path}{os.sep}", ""), state)
    return Run(path, config, manifest, summary)


def read_config(path: Path) -> dict[str, Any]:
    """A resolved configuration by dotted keys.

    Raises:
        RunError: when it is missing, no YAML of plain values, or no mapping.
    """
    try:
        text = _bounded(path).read_text(encoding="utf-8")
        if re.search(r"(?m)(^|[\s\[{,:-])\*\S", text):  # an alias: a few lines of them can stand for gigabytes
            raise RunError(f"{path}: holds YAML aliases; a resolved configuration has none")
        config = yaml.load(text, Loader=_LOADER)  # the safe loader: plain values only
    except FileNotFoundError:
        raise RunError(f"{path}: not found") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: could not be read as YAML ({' '.join(str(error).split())[:120]})") from None
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected a mapping, found {type(config).__name__}")
    return flatten(config)


def running(run: LeftOut) -> bool:
    """Whether a run that was left out may still be completed by a live process."""
    return run.state == "running" and _age(run.path / "status.json") < STALE


def _object(path: Path) -> dict[str, Any]:
    return read_json(_bounded(path))


def _bounded(path: Path) -> Path:
    if path.is_file() and path.stat().st_size > LARGEST_TEXT:
        raise RunError(f"{path}: {path.stat().st_size:,} bytes; expected at most {LARGEST_TEXT:,}")
    return path


def _unfinished(path: Path, status: Mapping[str, Any]) -> str:
    state = status.get("state")
    words = [f"{state}" if isinstance(state, str) else "status.json has no state"]
    try:
        rows = read_metrics(path / "metrics.csv")
        most = read_config(path / "config.resolved.yaml").get("trainer.max_epochs")
    except (OSError, ValueError, RunError):
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


def _text(node: Any, key: str) -> str | None:
    value = node.get(key) if isinstance(node, dict) else None
    return value if isinstance(value, str) else None


def _what(path: Path) -> str:
    return "a file" if path.exists() else "nothing"
