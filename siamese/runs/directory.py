"""The run directory, version 1: its only writer."""

from __future__ import annotations

import csv
import io
import logging
import os
import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from siamese.config.schema import SCHEMA_VERSION, Config
from siamese.config.validate import to_dict
from siamese.runs.clock import now
from siamese.runs.files import atomic, link, sweep_leftovers, write_json
from siamese.runs.locks import claim
from siamese.runs.provenance import environment
from siamese.runs.read import holds_a_run, read_manifest, read_metrics

log = logging.getLogger(__name__)

PIXELS = 3000  # of the longer side of a figure


class RunDirectory:
    """A claimed directory of one run, and everything that is written into it."""

    def __init__(self, path: Path) -> None:
        """Claim ``path`` and sweep what an earlier, killed process left half written.

        Raises:
            ConfigError: when another process holds it or it cannot be written to.
        """
        claim(path)
        self.path = path
        self.run_id: str | None = None  # once the run has begun or goes on
        self._beat_at = 0.0
        self._rows: list[dict[str, str]] | None = None  # of metrics.csv, which nobody else writes
        sweep_leftovers(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    # -- what ran ------------------------------------------------------------------------------

    def begin(self, config: Config, facts: Mapping[str, Any]) -> None:
        """Write the resolved config and the manifest of a new run; ``facts`` join the manifest."""
        self._write_config(config)
        self.run_id = uuid.uuid4().hex
        write_json(
            self.path / "manifest.json",
            {
                "schema_version": SCHEMA_VERSION,
                "run_id": self.run_id,
                "name": config.name,
                "seed": config.seed,
                "started": now(),
                **environment(),
                **facts,
                "resumes": [],
            },
        )

    def resume(self, config: Config) -> None:
        """Note in the manifest that the run goes on, and where and with what it does."""
        manifest = read_manifest(self.path)
        self.run_id = str(manifest["run_id"])
        manifest.setdefault("resumes", []).append({"started": now(), **environment()})
        write_json(self.path / "manifest.json", manifest)
        self._write_config(config)

    def _write_config(self, config: Config) -> None:
        with atomic(self.path / "config.resolved.yaml") as file:
            file.write(yaml.safe_dump(to_dict(config), sort_keys=False).encode())

    # -- how it is going -----------------------------------------------------------------------

    def status(self, state: str, error: str | None = None, **where: Any) -> None:
        """Write status.json: running, completed, failed or interrupted."""
        self._beat_at = time.monotonic()
        write_json(
            self.path / "status.json",
            {
                "state": state,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "heartbeat": now(),
                "error": error,
                **where,
            },
        )

    def ended(self, state: str, error: str | None = None) -> None:
        """Say how the run ended; one that was refused before it went on is left as it was."""
        if self.run_id is not None or not holds_a_run(self.path):
            self.status(state, error=error)

    def died(self, state: str, error: str | None, output: str) -> None:
        """Say for a process that could not how it ended; what it printed joins train.log."""
        if output:
            with open(self.path / "train.log", "a") as file:
                file.write(output.rstrip("\n") + "\n")
        self.status(state, error=error)

    def beat(self, every: float, **where: Any) -> None:
        """Renew the heartbeat if the last one is ``every`` seconds old."""
        if time.monotonic() - self._beat_at >= every:
            self.status("running", **where)

    # -- what it measured ----------------------------------------------------------------------

    def history(self) -> list[dict[str, str]]:
        """The rows of metrics.csv as text, without a torn last one.

        Raises:
            RunError: when they cannot be read.
        """
        if self._rows is None:
            self._rows = read_metrics(self.path / "metrics.csv")
        return list(self._rows)

    def add_epoch(self, row: Mapping[str, Any]) -> None:
        """Add the row of one epoch to metrics.csv, in the place of that epoch's and later rows."""
        earlier = [r for r in self.history() if int(r["epoch"]) < row["epoch"]]
        self.write_history([*earlier, {k: _text(v) for k, v in row.items()}])

    def write_history(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Let metrics.csv hold ``rows``."""
        columns = list(dict.fromkeys(k for r in rows for k in r))
        self._rows = [{column: row.get(column, "") for column in columns} for row in rows]
        with atomic(self.path / "metrics.csv") as file:
            file.write(_as_csv(self._rows).encode())

    def carried(self) -> dict[str, str]:
        """What each checkpoint carries of its run, so that it can be told from another's and metrics.csv made again."""
        own = {} if self.run_id is None else {"run_id": self.run_id}
        return {**own, "metrics": _as_csv(self.history())}

    def table(self, name: str, rows: Sequence[Mapping[str, str]]) -> Path:
        """Write NAME.csv."""
        path = self.path / f"{name}.csv"
        with atomic(path) as file:
            file.write(_as_csv(rows).encode(errors="backslashreplace"))  # file names may be no text
        return path

    def arrays(self, name: str, **values: Any) -> Path:
        """Write arrays/NAME.npz (no pickled objects)."""
        path = self.path / "arrays" / f"{name}.npz"
        converted = {k: np.asarray(v) for k, v in values.items()}
        for key, value in converted.items():
            assert value.dtype.kind != "O", f"{key} would be pickled"
        with atomic(path) as file:
            np.savez(file, **converted)  # type: ignore[arg-type]
        return path

    def figure(self, name: str, figure: Any, format: str = "png") -> Path:
        """Write figures/NAME.FORMAT, the same bytes for the same matplotlib figure, of at most 3000 pixels a side."""
        import matplotlib

        path = self.path / "figures" / f"{name}.{format}"
        dpi = min(150.0, PIXELS / max(figure.get_size_inches()))
        undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
        with matplotlib.rc_context({"svg.hashsalt": name}), atomic(path) as file:
            figure.savefig(file, format=format, dpi=dpi, metadata=undated)
        return path

    def summary(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Write summary.json; but for figures the last file of a complete run before its status."""
        write_json(self.path / "summary.json", values)

    def evaluation(self, about: Mapping[str, Any]) -> None:
        """Write evaluation.json, which says what was measured here."""
        write_json(self.path / "evaluation.json", about)

    def name_checkpoint(self, path: Path, name: str) -> None:
        """Let the checkpoint in ``path`` be found as checkpoints/NAME too."""
        link(path, self.checkpoints / name)


class FollowedRun(RunDirectory):
    """A run that this process trains in while another one, its leader, writes: nothing is claimed or written here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = None

    def status(self, state: str, error: str | None = None, **where: Any) -> None:
        pass

    def beat(self, every: float, **where: Any) -> None:
        pass

    def resume(self, config: Config) -> None:
        pass

    def add_epoch(self, row: Mapping[str, Any]) -> None:
        pass

    def carried(self) -> dict[str, str]:
        return {}

    def name_checkpoint(self, path: Path, name: str) -> None:
        pass


def _as_csv(rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    text = io.StringIO()
    returns = any("\r" in value for row in rows for value in row.values())  # which Python 3.11 leaves unquoted
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_ALL if returns else 0)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)
