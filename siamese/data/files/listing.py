"""What the cache of decoded pixels holds, and removing it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from siamese.data.files.cache import cache_folder
from siamese.data.files.index import read_index
from siamese.data.files.lock import locked
from siamese.decoding.names import one_line
from siamese.errors import ConfigError, RunError

NAME = re.compile("[0-9a-f]{24}")


class Cached(NamedTuple):
    """A folder of decoded pixels: of the collection in ``root``, whose images are of ``size`` (height, width). Of a
    damaged folder neither is known. ``used`` is when it was last used, in seconds since 1970."""

    folder: Path
    root: str | None
    size: tuple[int, int] | None
    images: int
    bytes: int
    used: float


def cached_collections(cache_dir: str | None) -> list[Cached]:
    """The collections in the cache, the last used first; none where there is no cache.

    Raises:
        RunError: when the cache cannot be read.
    """
    cache = cache_folder(cache_dir)
    try:
        folders = [Path(entry) for entry in os.scandir(cache) if NAME.fullmatch(entry.name) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"data.cache_dir={one_line(cache)}: cannot be read ({error.strerror})") from None
    return sorted(map(_cached, folders), key=lambda cached: cached.used, reverse=True)


def _cached(folder: Path) -> Cached:
    index = read_index(folder)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    used = folder.stat().st_mtime
    if index is None:
        return Cached(folder, None, None, 0, size, used)
    height, width = index.facts["size"]
    return Cached(folder, index.facts["root"], (height, width), len(index.rows), size, used)


def clear(folder: Path) -> None:
    """Remove a folder of decoded pixels. A run that reads them goes on; the next one decodes them again.

    Raises:
        ConfigError: while another process decodes into it.
        RunError: when it cannot be removed.
    """
    try:
        with locked(folder, wait=False):
            shutil.rmtree(folder)
    except BlockingIOError:
        raise ConfigError(f"{one_line(folder)}: a process decodes into it; wait for that") from None
    except OSError as error:
        raise RunError(f"{one_line(folder)}: cannot be removed ({error.strerror})") from None
