"""Run directories, wherever they are below a folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from siamese.errors import ConfigError
from siamese.runs.run import LeftOut, Run, read_run

MARKS = ("manifest.json", "status.json", "config.resolved.yaml", ".hydra")  # any of them makes a run directory


def find_runs(paths: Iterable[Path]) -> tuple[list[Run], list[LeftOut]]:
    """Every run directory at or below ``paths``: the complete ones, and the others with the reason.

    Raises:
        ConfigError: for a path that is no directory.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            what = "a file" if path.exists() else "nothing"
            raise ConfigError(f"{path}: expected a run directory or a folder of them, found {what}")
        for folder, folders, files in os.walk(path):
            if any(mark in files or mark in folders for mark in MARKS):
                found.setdefault(Path(folder).resolve())
                folders.clear()
            folders[:] = sorted(name for name in folders if not name.startswith("."))
    results = [read_run(path) for path in found]
    return [r for r in results if isinstance(r, Run)], [r for r in results if isinstance(r, LeftOut)]
