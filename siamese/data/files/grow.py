"""Decoding files in parallel, and adding their pixels to those of their collection. What calls this holds the lock."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich import get_console
from rich.markup import escape
from rich.progress import Progress

from siamese.data.files.collection import ImageFiles
from siamese.data.files.decode import DamagedError, Decoded, decode
from siamese.data.files.index import BLOCK, Index, Row, stamp_of
from siamese.data.files.names import one_line
from siamese.errors import RunError

log = logging.getLogger(__name__)

TOGETHER = 256  # images, at most, that are decoded before they are written: what an interrupt loses
WASTE = 64 * 2**20  # bytes of rows of files that are gone, which are left where they are
PIXELS = re.compile(r"pixels-(\d+)\.bin")


@dataclass
class Outcome:
    """What came of decoding: why each of the damaged files could not be, and the files of which something was odd."""

    damaged: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def grow(folder: Path, index: Index, files: ImageFiles, wanted: dict[str, tuple[int, int]]) -> Outcome:
    """Decode the files of ``wanted`` (with sizes and times of change) into new rows; ``index`` is then written.

    Rows that are there are neither moved nor written over: who reads them goes on. What was decoded when something
    stops it is kept.

    Raises:
        OSError: when the pixels cannot be written.
        RunError: when the index cannot be.
    """
    outcome = Outcome()
    with open(folder / index.pixels, "ab", buffering=0):  # so that it is there
        pass
    with open(folder / index.pixels, "r+b", buffering=0) as file:
        file.truncate(index.count * index.row_bytes)  # without what a killed process left; a gap for what was cut off
        try:
            for paths, results in _decoded(files, list(wanted)):
                _append(file, index, paths, results, wanted, outcome)
        except BaseException:
            with contextlib.suppress(RunError, OSError):
                finish(folder, index, file)
            raise
        finish(folder, index, file)
    return outcome


def finish(folder: Path, index: Index, file: IO[bytes]) -> None:
    """Write the index of ``file``, which is whole."""
    os.fsync(file.fileno())
    index.stamp = stamp_of(file)
    index.write(folder)
    for name in os.listdir(folder):
        if PIXELS.fullmatch(name) and name != index.pixels:
            os.unlink(folder / name)  # those who read it still have it


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
            _write(new, os.pread(old.fileno(), index.row_bytes, row.row * index.row_bytes), new.tell())
            new.seek(0, os.SEEK_END)
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


def _decoded(files: ImageFiles, paths: list[str]) -> Iterator[tuple[list[str], list[Decoded | DamagedError]]]:
    """``paths`` decoded, some at a time, each with its image or what is wrong with it."""

    def one(path: str) -> Decoded | DamagedError:
        try:
            return decode(files.root / path, files.decoding)
        except DamagedError as error:
            return error

    at_once = max(1, min(TOGETHER, BLOCK // (3 * int(np.prod(files.decoding.size)))))
    bar = Progress(transient=True, disable=not get_console().is_terminal)
    with bar as progress, ThreadPoolExecutor(files.decoding.decode_workers, "decode") as pool:
        task = progress.add_task(f"decoding {escape(one_line(files.root))}", total=len(paths))
        try:
            for start in range(0, len(paths), at_once):
                some = paths[start : start + at_once]
                results = []
                for result in pool.map(one, some):
                    results.append(result)
                    progress.advance(task)
                yield some, results
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _append(
    file: IO[bytes],
    index: Index,
    paths: list[str],
    results: list[Decoded | DamagedError],
    wanted: dict[str, tuple[int, int]],
    outcome: Outcome,
) -> None:
    good: list[tuple[str, np.ndarray]] = []
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, DamagedError):
            outcome.damaged[path] = str(result)
        else:
            good.append((path, np.ascontiguousarray(result.pixels)))
            for note in result.notes:
                outcome.notes[note].append(path)
    _write(file, b"".join(pixels.data for _, pixels in good), index.count * index.row_bytes)
    for path, pixels in good:
        index.rows[path] = Row(index.count, *wanted[path], zlib.crc32(pixels.data))
        index.count += 1


def _write(file: IO[bytes], content: Any, place: int) -> None:
    left = memoryview(content)
    while left:
        count = os.pwrite(file.fileno(), left, place)
        left, place = left[count:], place + count
