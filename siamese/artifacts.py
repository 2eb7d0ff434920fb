"""The run directory, version 1: the only writer of one, and the reader of its small files.

Every file is written to a temporary name beside it, synced and renamed, so a reader sees the old
file or the new one, never half of either. Nothing here imports torch at module level.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import importlib.metadata
import io
import json
import logging
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from siamese.config import to_dict
from siamese.errors import ConfigError, RunError
from siamese.schema import SCHEMA_VERSION, Config

log = logging.getLogger(__name__)

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scikit-learn",
    "scipy",
    "pillow",
    "matplotlib",
)
TEMPORARY = ".tmp~"
LEADER = "SIAMESE_LEADER"  # the process that trains on the first of several devices, for those it starts
_FOLLOWS = os.environ.get(LEADER) == str(os.getppid())
_locks: dict[Path, int] = {}  # file descriptors of the run directories that this process holds


def lead() -> None:
    """Let the processes that this one starts know whose they are."""
    os.environ[LEADER] = str(os.getpid())


def follows() -> bool:
    """Whether this process trains on another device than the first of a run. It writes nothing: the
    first has the same numbers."""
    return _FOLLOWS


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing under a temporary name beside it; sync and rename on success.

    Raises:
        RunError: when the file cannot be written (disk full, no permission); an earlier ``path``
            is then as it was.
    """
    if follows():
        yield io.BytesIO()
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` is now (a link, where the file system has them)."""
    if follows():
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}{TEMPORARY}")
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"{target}: could not be written ({error.strerror or error})") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    with atomic(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False, default=str) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``.

    Raises:
        RunError: when the file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{path}: not found; expected a run directory's {path.name}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: could not be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def claim(path: Path) -> None:
    """Hold ``path`` for this process until it ends, however it ends; a second call does nothing.

    Raises:
        ConfigError: when another process holds it, or it cannot be made or written to.
    """
    path = path.absolute()
    if path in _locks or follows():
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written to ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(descriptor, 200).decode(errors="replace") or "another process"
        os.close(descriptor)
        raise ConfigError(f"{path}: in use by {owner}; wait for it, or choose another directory") from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
    _locks[path] = descriptor


def holder(path: Path) -> str | None:
    """Which process holds ``path`` ("process 12 on host"), if one does; nothing is made or changed."""
    try:
        descriptor = os.open(path / ".lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(descriptor, 200).decode(errors="replace") or "another process"
    finally:
        os.close(descriptor)
    return None


def release(path: Path) -> None:
    """Give up a directory that :func:`claim` holds."""
    descriptor = _locks.pop(path.absolute(), None)
    if descriptor is not None:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def holds_a_run(path: Path) -> bool:
    """Whether a run has begun in ``path`` (what stopped before it wrote its manifest left nothing)."""
    return (path / "manifest.json").exists()


def fingerprint(*arrays: np.ndarray | list[str]) -> str:
    """A digest of the contents, shapes and types of ``arrays`` (16 hexadecimal digits)."""
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        array = np.ascontiguousarray(array)
        if array.dtype.kind == "U":
            array = np.char.encode(array, "utf-8")
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def git_state() -> dict[str, Any]:
    """Commit and dirty flag of the checkout this package runs from; nulls outside of one."""

    def git(*words: str) -> str | None:
        where = Path(__file__).parent
        try:
            done = subprocess.run(["git", *words], cwd=where, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"sha": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


class RunDirectory:
    """A claimed directory of one run, and everything that is written into it."""

    def __init__(self, path: Path) -> None:
        """Claim ``path`` and sweep what an earlier, killed process left half written.

        Raises:
            ConfigError: when another process holds it or it cannot be written to.
        """
        claim(path)
        self.path = path
        self._beat_at = 0.0
        if follows():
            return
        for leftover in [*path.glob(f".*{TEMPORARY}"), *path.glob(f"*/.*{TEMPORARY}")]:
            leftover.unlink(missing_ok=True)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    # -- what ran ------------------------------------------------------------------------------

    def begin(self, config: Config, facts: Mapping[str, Any]) -> None:
        """Write the resolved config and the manifest of a new run; ``facts`` join the manifest."""
        with atomic(self.path / "config.resolved.yaml") as file:
            file.write(yaml.safe_dump(to_dict(config), sort_keys=False).encode())
        write_json(
            self.path / "manifest.json",
            {
                "schema_version": SCHEMA_VERSION,
                "run_id": uuid.uuid4().hex,
                "name": config.name,
                "seed": config.seed,
                "started": _now(),
                **_environment(),
                **facts,
                "resumes": [],
            },
        )

    def resume(self, config: Config) -> None:
        """Note in the manifest that the run goes on, and where and with what it does."""
        manifest = read_json(self.path / "manifest.json")
        manifest["resumes"].append({"started": _now(), **_environment()})
        write_json(self.path / "manifest.json", manifest)
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
                "heartbeat": _now(),
                "error": error,
                **where,
            },
        )

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
        """The rows of metrics.csv as text, without a torn last one."""
        return read_metrics(self.path / "metrics.csv")

    def add_epoch(self, row: Mapping[str, Any]) -> None:
        """Add the row of one epoch to metrics.csv, in the place of that epoch's and later rows."""
        rows: list[dict[str, Any]] = [r for r in self.history() if int(r["epoch"]) < row["epoch"]]
        rows.append({k: _text(v) for k, v in row.items()})
        columns = list(dict.fromkeys(k for r in rows for k in r))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic(self.path / "metrics.csv") as file:
            file.write(text.getvalue().encode())

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
        """Write figures/NAME.FORMAT, the same bytes for the same matplotlib figure."""
        import matplotlib

        path = self.path / "figures" / f"{name}.{format}"
        undated: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
        with matplotlib.rc_context({"svg.hashsalt": name}), atomic(path) as file:
            figure.savefig(file, format=format, dpi=150, metadata=undated)
        return path

    def summary(self, values: Mapping[str, Mapping[str, Any]]) -> None:
        """Write summary.json; the last file of a complete run but for its status."""
        write_json(self.path / "summary.json", values)


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv; empty when there is none."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))
    return [r for r in rows if r.get("epoch", "").isdigit() and None not in r.values()]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _environment() -> dict[str, Any]:
    return {
        "argv": sys.argv,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
