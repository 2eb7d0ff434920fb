"""A run as a person looks at it from Python: numbers by their names, arrays when they are asked for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from siamese.errors import ConfigError, RunError, nearest, several
from siamese.runs.arrays import read_arrays
from siamese.runs.read import WHOLE, holds_a_run
from siamese.runs.run import LeftOut, Run, read_run

SUFFIXES = (".png", ".svg", ".pdf")  # of figures


class Arrays(Mapping[str, dict[str, np.ndarray]]):
    """The arrays of a run by the names of their files, each read when it is first asked for:
    ``arrays["test"]["embeddings"]``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, dict[str, np.ndarray]] = {}

    def __getitem__(self, name: str) -> dict[str, np.ndarray]:
        """The arrays in arrays/NAME.npz.

        Raises:
            KeyError: when there is no such file.
            RunError: when it is damaged.
        """
        if name not in self._read:
            if name not in list(self):
                raise KeyError(f"{name}: no such arrays; there are {several(self)}{nearest(str(name), self)}")
            self._read[name] = read_arrays(self._folder / f"{name}.npz")
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(file.stem for file in self._folder.glob("*.npz")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<arrays {', '.join(self)}>"


class OpenRun:
    """A completed run, read from its directory.

    Attributes:
        path: the directory.
        config: the configuration by dotted keys.
        summary: the value of each measure, ``summary["test/auc"]``; None where it could not be measured.
        arrays: see :class:`Arrays`.
        figures: the file of each figure, by its name.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.path = run.path
        self.config: dict[str, Any] = run.config
        self.summary: dict[str, float | None] = {name: run.metric(name) for name in run.summary}
        self.arrays = Arrays(run.measured / "arrays")
        drawn = sorted((run.measured / "figures").glob("*"))
        self.figures: dict[str, Path] = {file.stem: file for file in drawn if file.suffix in SUFFIXES}

    @cached_property
    def metrics(self) -> Any:
        """What metrics.csv holds, a row an epoch: a DataFrame where pandas is installed, else a list of dicts. What was
        not measured in an epoch is NaN there, None here.

        Raises:
            RunError: when it cannot be read.
        """
        if self._run.rows_unread is not None:
            raise RunError(f"{self.path}: {self._run.rows_unread}")
        rows = [
            {name: (int(text) if name in WHOLE else float(text)) if text else None for name, text in row.items()}
            for row in self._run.rows
        ]
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError:
            return rows
        return pandas.DataFrame(rows)

    def encoder(self) -> Any:
        """The trained network of the best epoch, which turns images into embeddings. Imports torch."""
        return importlib.import_module("siamese.encoder").load_run(self.path)

    def __repr__(self) -> str:
        return f"<run {self.path}, {len(self.summary)} measures>"


def open_run(directory: str | os.PathLike[str]) -> OpenRun:
    """Open the completed run in ``directory``.

    Raises:
        ConfigError: for a directory that is no run.
        RunError: for a run that is not completed or cannot be read.
    """
    path = Path(directory).expanduser()
    if not path.is_dir():
        beside = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"{path}: no such directory; expected a run's{nearest(path.name, beside)}")
    if not holds_a_run(path):
        raise ConfigError(f"{path}: not a run directory; expected manifest.json in it")
    run = read_run(path)
    if isinstance(run, LeftOut):
        raise RunError(f"{path}: {run.reason}")
    return OpenRun(run)
