"""Where a run comes from: code, packages, machine, and digests of its data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

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


class Digest:
    """A digest of arrays, of which one may be given a part at a time."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=8)

    def begin(self, dtype: str, shape: tuple[int, ...]) -> None:
        """Announce an array, whose values :meth:`add` gives."""
        self._hash.update(f"{dtype}{tuple(shape)}".encode())

    def add(self, values: np.ndarray) -> None:
        self._hash.update(np.ascontiguousarray(values).data)

    def of(self, *arrays: np.ndarray | list[str]) -> str:
        """The digest (16 hexadecimal digits) with whole ``arrays`` after what was given so far."""
        for array in arrays:
            array = np.ascontiguousarray(array)
            if array.dtype.kind == "U":
                array = np.char.encode(array, "utf-8")
            self.begin(array.dtype.str, array.shape)
            self.add(array)
        return self._hash.hexdigest()


def fingerprint(*arrays: np.ndarray | list[str]) -> str:
    """A digest of the contents, shapes and types of ``arrays`` (16 hexadecimal digits)."""
    return Digest().of(*arrays)


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


def environment() -> dict[str, Any]:
    """What a process runs with: its command, code, packages and machine."""
    return {
        "argv": sys.argv,
        "git": git_state(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
