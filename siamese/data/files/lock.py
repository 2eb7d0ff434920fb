"""One process at a time adds to the decoded pixels of a collection."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from siamese.decoding.names import one_line

log = logging.getLogger(__name__)

LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold ``folder``, which is made if it is missing; where another process does, ``wait`` for it, with a line in the
    log. The lock goes with the process, however it ends.

    Raises:
        OSError: when the folder cannot be written to; BlockingIOError when another process holds it and is not to be
            waited for.
    """
    descriptor = _held(folder, wait)
    try:
        yield
    finally:
        os.close(descriptor)


def _held(folder: Path, wait: bool) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                owner = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
                log.info("%s: waiting for %s, which decodes into it", one_line(folder), owner)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is(folder / LOCK, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the folder was removed while we waited


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
