"""The files that a list names, against those that are there."""

from __future__ import annotations

import logging
import os
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from siamese.decoding.decode import Decoding
from siamese.decoding.names import few, one_line
from siamese.errors import RunError

log = logging.getLogger(__name__)


def files_below(root: Path) -> set[str]:
    """The files below ``root``, relative, with ``/`` between the parts; linked folders are entered.

    Raises:
        RunError: for a folder that cannot be read.
    """
    found: set[str] = set()
    folders = [("", frozenset({os.path.realpath(root)}))]
    while folders:
        folder, entered = folders.pop()  # by links, so that one that leads back ends
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        if entry.is_file():
                            found.add(folder + entry.name)
                    elif not entry.is_symlink():
                        folders.append((f"{folder}{entry.name}/", entered))
                    elif (there := os.path.realpath(entry.path)) not in entered:
                        folders.append((f"{folder}{entry.name}/", entered | {there}))
        except OSError as error:
            raise RunError(f"{one_line(root / folder)}: cannot be read ({error.strerror})") from None
    return found


def present(named_in: Path, paths: Sequence[str], root: Path, there: Container[str], decoding: Decoding) -> np.ndarray:
    """The numbers [n] of those of ``paths`` whose file is ``there`` below ``root``.

    Raises:
        RunError: when one is missing, unless ``data.damaged=skip``: then they are left out, and counted in the log.
    """
    missing = [path for path in paths if path not in there]
    if not missing:
        return np.arange(len(paths))
    which = f"{len(missing):,} of {len(paths):,} rows name a file that is not below {root} ({few(missing)})"
    if decoding.damaged != "skip":
        raise RunError(f"{named_in}: {which}; expected all of them, or data.damaged=skip")
    log.warning("%s: %s; they are left out (data.damaged=skip)", named_in, which)
    return np.array([i for i, path in enumerate(paths) if path in there], dtype=np.int64)
