"""Files that are whole or not there: written to a temporary name beside them, synced and renamed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from siamese.errors import RunError

TEMPORARY = ".tmp~"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open ``path`` for writing under a temporary name beside it; sync and rename on success.

    Raises:
        RunError: when the file cannot be written (disk full, no permission); an earlier ``path``
            is then as it was.
    """
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
        with contextlib.suppress(OSError):  # as where a folder of its name is a file
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON; NaN and infinity, which JSON lacks, raise a ValueError."""
    with atomic(path) as file:
        file.write((json.dumps(value, indent=2, allow_nan=False, default=str) + "\n").encode())


def link(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source`` is now (a copy, where the file system has no links).

    Raises:
        RunError: when it cannot be written.
    """
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


def set_aside(path: Path) -> Path:
    """Rename what is damaged, so that it can be made again and nothing is lost; the new name.

    Raises:
        RunError: when it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged{number}") for number in ("", *range(2, 1000)))
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        os.rename(path, aside)
    except OSError as error:
        raise RunError(f"{path}: could not be renamed ({error.strerror or error})") from None
    return aside


def sweep_leftovers(folder: Path) -> None:
    """Remove what an earlier, killed process left half written in ``folder`` and the folders in it."""
    for leftover in [*folder.glob(f".*{TEMPORARY}"), *folder.glob(f"*/.*{TEMPORARY}")]:
        leftover.unlink(missing_ok=True)
