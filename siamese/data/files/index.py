"""What a folder of decoded pixels holds: ``index.json`` beside the file of pixels that it describes."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from siamese.data.files.collection import ImageFiles
from siamese.runs.files import atomic

INDEX = "index.json"
WHOLE = 512 * 2**20  # bytes of pixels; of fewer, each row is compared with its checksum whenever it is used
BLOCK = 64 * 2**20  # bytes of pixels that are read at a time
COLUMNS = ("paths", "rows", "sizes", "mtimes", "crcs")


class Row(NamedTuple):
    """Where the pixels of a file are, the file's size and time of change when it was decoded, and a CRC-32 of them."""

    row: int
    size: int
    mtime: int
    crc: int


@dataclass
class Index:
    """The rows of one file of pixels.

    Attributes:
        facts: what the collection is and how it is decoded, as :func:`facts_of` gives it.
        pixels: the name of the file, which holds rows of one size and is only appended to.
        count: the rows that have ever been given out in it, dead ones too.
        rows: the row of each path.
        stamp: size and time of change of the file of pixels when it was last written.
    """

    facts: dict[str, Any]
    pixels: str
    count: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    stamp: tuple[int, int] = (0, 0)

    @property
    def row_bytes(self) -> int:
        height, width = self.facts["size"]
        return int(3 * height * width)

    def write(self, folder: Path) -> None:
        """Write ``folder/index.json``, at once or not at all.

        Raises:
            RunError: when it cannot be written.
        """
        ordered = sorted(self.rows.items(), key=lambda pair: pair[1].row)  # whatever was decoded first
        columns = zip(*([path, *row] for path, row in ordered), strict=True)
        content = {
            **self.facts,
            "pixels": self.pixels,
            "count": self.count,
            "stamp": self.stamp,
            **dict(zip(COLUMNS, map(list, columns) if self.rows else [[]] * len(COLUMNS), strict=True)),
        }
        with atomic(folder / INDEX) as file:
            file.write(json.dumps(content).encode())


def facts_of(files: ImageFiles) -> dict[str, Any]:
    """What decoded pixels depend on besides the files themselves; text of a path that is none stays as it is."""
    how = files.decoding
    return {
        "root": str(files.root.resolve()),
        "size": list(how.size),
        "fit": how.fit,
        "background": list(how.background),
    }


def read(folder: Path, facts: dict[str, Any]) -> tuple[Index, IO[bytes]] | None:
    """What ``folder`` holds of the collection of ``facts``, and its file of pixels, opened; None where there is
    nothing, or something damaged."""
    for _ in range(3):
        index = read_index(folder)
        if index is None or index.facts != facts:
            return None
        with contextlib.suppress(OSError):  # another process has begun a new file since the index was read
            return index, open(folder / index.pixels, "rb", buffering=0)
    return None


def read_index(folder: Path) -> Index | None:
    """``folder/index.json``; None where it is missing or damaged."""
    try:
        return _parsed(json.loads((folder / INDEX).read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _parsed(content: Any) -> Index:
    paths, *numbers = (content[name] for name in COLUMNS)
    whole = [content["count"], *content["stamp"], *content["size"], *(n for column in numbers for n in column)]
    texts = [content["root"], content["fit"], content["pixels"], *paths]
    if not all(type(number) is int and 0 <= number < 2**63 for number in whole):
        raise ValueError("expected whole numbers")
    if not all(type(text) is str for text in texts) or "/" in content["pixels"]:
        raise ValueError("expected text")
    facts = {name: content[name] for name in ("root", "size", "fit", "background")}
    rows = dict(zip(paths, map(Row, *numbers), strict=True))
    size, mtime = content["stamp"]
    index = Index(facts, content["pixels"], content["count"], rows, (size, mtime))
    if index.row_bytes <= 0 or any(row.row >= index.count for row in rows.values()):
        raise ValueError("a row beyond the last")
    return index


def stamp_of(file: IO[bytes]) -> tuple[int, int]:
    """The size and the time of change of ``file``."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def bad_rows(index: Index, file: IO[bytes], paths: list[str]) -> set[str]:
    """Those of ``paths`` whose rows are not what was written: rows beyond the end of ``file``, and where it is small or
    has changed since it was written, those whose pixels have another checksum."""
    stamp, row_bytes = stamp_of(file), index.row_bytes
    bad = {path for path in paths if (index.rows[path].row + 1) * row_bytes > stamp[0]}
    if stamp == index.stamp and stamp[0] >= WHOLE:
        return bad
    there = sorted(set(paths) - bad, key=lambda path: index.rows[path].row)
    found = _checksums(file, [index.rows[path].row for path in there], row_bytes)
    return bad | {path for path, crc in zip(there, found, strict=True) if crc != index.rows[path].crc}


def _checksums(file: IO[bytes], rows: list[int], row_bytes: int) -> Iterator[int]:
    """The CRC-32 of each of ``rows``, which ascend."""
    at_once = max(1, BLOCK // row_bytes)
    start = 0
    while start < len(rows):
        first = rows[start]
        end = int(np.searchsorted(rows, first + at_once))
        block = memoryview(os.pread(file.fileno(), (rows[end - 1] - first + 1) * row_bytes, first * row_bytes))
        for row in rows[start:end]:
            yield zlib.crc32(block[(row - first) * row_bytes : (row - first + 1) * row_bytes])
        start = end
