"""Decoding files in parallel, and adding their pixels to those of their collection. What calls this holds the lock."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rich import get_console
from rich.markup import escape
from rich.progress import Progress

from siamese.data.files.collection import ImageFiles
from siamese.data.files.index import Index, Row, stamp_of
from siamese.decoding.names import one_line
from siamese.decoding.pool import decode_in_threads
from siamese.decoding.rows import Done, write
from siamese.errors import RunError

log = logging.getLogger(__name__)

SAVED = 60.0  # seconds from one time to the next that the index is written: what a killed process loses
WASTE = 64 * 2**20  # bytes of rows of files that are gone, which are left where they are
PIXELS = re.compile(r"pixels-(\d+)\.bin")


@dataclass
class Outcome:
    """What came of decoding: why each of the damaged files could not be, and the files of which something was odd."""

    damaged: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def grow(folder: Path, index: Index, files: ImageFiles, wanted: dict[str, tuple[int, int]]) -> Outcome:
    """Decode the files of ``wanted`` (with sizes and times of change) into new rows, in their order, and write the
    index.

    Rows that are there are neither moved nor written over: who reads them goes on. What was decoded when something
    stops it is kept, but for the last minute's where it is killed.

    Raises:
        OSError: when the pixels cannot be written.
        RunError: when the index cannot be.
    """
    outcome, first, saved = Outcome(), index.count, time.monotonic()
    with open(folder / index.pixels, "ab", buffering=0):  # so that it is there
        pass
    with open(folder / index.pixels, "r+b", buffering=0) as file:
        file.truncate(first * index.row_bytes)  # without what a killed process left; a gap for what was cut off
        bar = Progress(transient=True, disable=not get_console().is_terminal)
        decoding = decode_in_threads(file.fileno(), first, files.root, list(wanted), files.decoding)
        try:
            with bar as progress, contextlib.closing(decoding) as decoded:
                task = progress.add_task(f"decoding {escape(one_line(files.root))}", total=len(wanted))
                for row, some, done in decoded:
                    _take(index, row, some, done, wanted, outcome)
                    progress.advance(task, len(some))
                    if time.monotonic() > saved + SAVED:
                        save(folder, index, file)
                        saved = time.monotonic()
        except BaseException:
            with contextlib.suppress(RunError, OSError):
                finish(folder, index, file)
            raise
        finish(folder, index, file)
    return outcome


def _take(
    index: Index, row: int, paths: Sequence[str], done: Done, wanted: dict[str, tuple[int, int]], outcome: Outcome
) -> None:
    """Enter what came of decoding ``paths``, of which the first has the row ``row``."""
    for number, path in enumerate(paths, row):
        if path in done.crcs:
            index.rows[path] = Row(number, *wanted[path], done.crcs[path])
            index.count = max(index.count, number + 1)
        for note in done.notes.get(path, ()):
            outcome.notes[note].append(path)
    outcome.damaged.update(done.damaged)


def finish(folder: Path, index: Index, file: IO[bytes]) -> None:
    """Write the index of ``file``, which is whole."""
    file.truncate(index.count * index.row_bytes)  # without rows begun, or set aside for files that are damaged
    save(folder, index, file)
    for name in os.listdir(folder):
        if PIXELS.fullmatch(name) and name != index.pixels:
            os.unlink(folder / name)  # those who read it still have it


def save(folder: Path, index: Index, file: IO[bytes]) -> None:
    """Write the index of ``file``, which may have rows begun beside those in it."""
    os.fsync(file.fileno())
    index.stamp = stamp_of(file)
    index.write(folder)


def next_name(folder: Path) -> str:
    """A name for a new file of pixels in ``folder``."""
    numbers = [int(match[1]) for name in os.listdir(folder) if (match := PIXELS.fullmatch(name))]
    return f"pixels-{max(numbers, default=0) + 1}.bin"


def compact(folder: Path, index: Index, files: ImageFiles, known: dict[str, tuple[int, int]]) -> Index:
    """``index``, or where most of its rows are of files that are gone, that of a new file with the others' alone.

    Args:
        known: sizes and times of change of files that have been looked at already.

    Raises:
        OSError: when it cannot be written.
        RunError: when the index cannot be.
    """

    def wasteful(live: int) -> bool:
        dead = index.count - live
        return dead * 2 > index.count and dead * index.row_bytes > WASTE

    if not wasteful(sum(path in index.rows for path in known)):
        return index
    live = {path: row for path, row in index.rows.items() if row[1:3] == (known.get(path) or status(files, path))}
    if not wasteful(len(live)):
        return index
    smaller = Index(index.facts, next_name(folder))
    with open(folder / index.pixels, "rb", buffering=0) as old, open(folder / smaller.pixels, "xb", buffering=0) as new:
        for path, row in sorted(live.items(), key=lambda pair: pair[1].row):
            pixels = os.pread(old.fileno(), index.row_bytes, row.row * index.row_bytes)
            write(new.fileno(), pixels, smaller.count * index.row_bytes)
            smaller.rows[path] = row._replace(row=smaller.count)
            smaller.count += 1
        finish(folder, smaller, new)
    gone = index.count - smaller.count
    log.info("%s: left out the pixels of %s images that are gone", one_line(folder), f"{gone:,}")
    return smaller


def status(files: ImageFiles, path: str) -> tuple[int, int]:
    """The size and the time of change of a file; (-1, -1) where it cannot be had."""
    try:
        found = os.stat(f"{files.root}/{path}")
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
