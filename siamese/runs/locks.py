"""Which process holds a directory: at most one at a time, until it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from siamese.errors import ConfigError

_locks: dict[Path, int] = {}  # file descriptors of the run directories that this process holds


def claim(path: Path) -> None:
    """Hold ``path`` for this process until it ends, however it ends; a second call does nothing.

    Raises:
        ConfigError: when another process holds it, or it cannot be made or written to.
    """
    path = path.absolute()
    if path in _locks:
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
