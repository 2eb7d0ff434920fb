"""Downloads that several processes may want at once: one fetches, the others wait for it."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

LOCK = ".download.lock"  # it stays, for removing it would let two processes hold two files of that name


@contextmanager
def only_download(folder: Path, what: str) -> Iterator[None]:
    """Hold ``folder``, made where it is missing, for downloading ``what``; wait while another process does.

    What was not there before may be there once it is held.

    Raises:
        OSError: when the folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        _wait(file.fileno(), fcntl.LOCK_EX, folder, what)
        yield


def await_download(folder: Path, what: str) -> None:
    """Wait while another process downloads ``what`` to ``folder``; nothing is made or changed."""
    if (folder / LOCK).exists():
        with (folder / LOCK).open() as file:
            _wait(file.fileno(), fcntl.LOCK_SH, folder, what)


def _wait(descriptor: int, kind: int, folder: Path, what: str) -> None:
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that downloads %s to %s", what, folder)
            fcntl.flock(descriptor, kind)
    except OSError as error:  # a file system without locks
        log.warning("%s: cannot be locked (%s); let no two processes download to it at once", folder, error.strerror)
