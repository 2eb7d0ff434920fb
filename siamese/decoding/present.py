"""Files that a person named, looked for before anything is done with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from siamese.decoding.names import counted, few
from siamese.errors import ConfigError, nearest


def check_files(paths: Sequence[Path]) -> None:
    """Refuse ``paths`` that lead to no file.

    Raises:
        ConfigError: naming the first of them, and for the very first the nearest name there is.
    """
    if folders := [path for path in paths if path.is_dir()]:
        found = "a folder" if len(folders) == 1 else "folders"
        raise ConfigError(f"{few(folders)}: expected image files, found {found}")
    if missing := [path for path in paths if not path.exists()]:
        beside = missing[0].parent
        hint = nearest(missing[0].name, sorted(os.listdir(beside))) if beside.is_dir() else ""
        many = f"{counted(len(missing), 'image')} of {len(paths):,}: " if len(missing) > 1 else ""
        raise ConfigError(f"{many}{few(missing)}: no such file{hint}")
