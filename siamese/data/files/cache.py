"""Decoded pixels of collections, a folder each, which grow by the files that are new or have changed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from siamese.data.files.collection import ImageFiles
from siamese.data.files.damaged import without
from siamese.data.files.grow import Outcome, compact, grow, next_name, status
from siamese.data.files.index import INDEX, Index, Row, bad_rows, facts_of, read, stamp_of
from siamese.data.files.lock import locked
from siamese.data.files.stored import StoredImages
from siamese.data.images import LabelledImages
from siamese.decoding.decode import DamagedError, decode
from siamese.decoding.names import counted, few, one_line
from siamese.errors import RunError
from siamese.runs.files import sweep_leftovers

log = logging.getLogger(__name__)

FORMAT = 3  # of the cache; raised when decoding changes

Wanted = dict[str, tuple[int, int]]  # files by their paths, with sizes and times of change


@dataclass(frozen=True)
class Held:
    """What a folder holds of the files wanted: the file of pixels, the row of each that is as it should be, the paths
    of the others, and whether the file of pixels has changed since its index was written."""

    file: IO[bytes]
    good: dict[str, Row]
    missing: list[str]
    changed: bool


def decoded(source: LabelledImages) -> LabelledImages:
    """``source``, whose images are files, with their pixels: those of the cache, and the others decoded into it.

    Under ``data.damaged=skip`` it comes without the images that could not be decoded.

    Raises:
        RunError: for files that cannot be decoded, under ``skip`` where a class of some part has no others; for a
            cache that cannot be written or read.
    """
    files = source.images
    assert isinstance(files, ImageFiles)
    wanted: Wanted = {path: status(files, path) for path in dict.fromkeys(files.paths)}
    cache = cache_folder(files.decoding.cache_dir)
    folder = cache / _name(facts_of(files))
    held, outcome = _look(folder, files, wanted), Outcome()
    if held is None or held.missing or held.changed:
        missing = list(wanted) if held is None else held.missing
        try:
            with locked(folder, wait=bool(missing)):
                held, outcome = _complete(folder, files, wanted)
        except OSError as error:  # which matters only where there is something to be written
            if not _all_damaged(files, missing, outcome):
                raise RunError(
                    f"data.cache_dir={one_line(cache)}: cannot be written to ({error.strerror}); choose another folder"
                ) from None
    with contextlib.suppress(OSError):
        os.utime(folder)  # when it was last used
    for note, paths in outcome.notes.items():
        log.info("%s: %s with %s: %s", one_line(files.root), counted(len(paths), "image"), note, few(paths))
    if outcome.damaged:
        source = without(source, outcome.damaged)
        files = source.images
        assert isinstance(files, ImageFiles)
    assert held is not None  # otherwise all are damaged, and have been refused
    rows = [held.good[path] for path in files.paths]
    numbers, crcs = (np.array(column, dtype=np.int64) for column in zip(*((r.row, r.crc) for r in rows), strict=True))
    return replace(source, images=StoredImages(held.file, folder, numbers, crcs, files.decoding.size))


def cache_folder(cache_dir: str | None) -> Path:
    """``data.cache_dir``, or where decoded pixels are kept without it."""
    if cache_dir:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamese"


def _name(facts: dict[str, Any]) -> str:
    """A name for a collection as it is decoded, whatever files it has."""
    return hashlib.blake2b(json.dumps([FORMAT, facts]).encode(), digest_size=12).hexdigest()


def _look(folder: Path, files: ImageFiles, wanted: Wanted) -> Held | None:
    """What ``folder`` holds of ``wanted``; nothing is changed. None where it holds nothing, or nothing that can be
    understood."""
    opened = read(folder, facts_of(files))
    if opened is None:
        return None
    index, file = opened
    current = [path for path, status in wanted.items() if path in index.rows and index.rows[path][1:3] == status]
    bad = bad_rows(index, file, current)
    return _held(index, file, wanted, bad)


def _held(index: Index, file: IO[bytes], wanted: Wanted, bad: set[str]) -> Held:
    good = {
        path: row
        for path, status in wanted.items()
        if (row := index.rows.get(path)) is not None and row[1:3] == status and path not in bad
    }
    return Held(file, good, [path for path in wanted if path not in good], stamp_of(file) != index.stamp)


def _complete(folder: Path, files: ImageFiles, wanted: Wanted) -> tuple[Held, Outcome]:
    """Decode into ``folder``, which is locked, what it does not hold of ``wanted``; another process may have decoded
    some of it while the lock was waited for."""
    sweep_leftovers(folder)
    opened = read(folder, facts_of(files))
    if opened is None:
        if (folder / INDEX).exists():
            log.warning("%s: the index is damaged; the images are decoded anew", one_line(folder))
        index, changed = Index(facts_of(files), next_name(folder)), True
    else:
        index, file = opened
        bad, changed = bad_rows(index, file, list(index.rows)), stamp_of(file) != index.stamp
        if bad:
            log.warning(
                "%s: %s not as written; what is needed of it is decoded anew",
                one_line(folder),
                counted(len(bad), "image is", "images are"),
            )
        for path in bad:
            del index.rows[path]
    outcome = Outcome()
    missing = {path: found for path, found in wanted.items() if (index.rows.get(path) or ())[1:3] != found}
    if missing or changed:
        there = len(wanted) - len(missing)
        outcome = grow(folder, index, files, missing)
        count = len(missing) - len(outcome.damaged)
        if count:
            log.info(
                "decoded %s of %s into %s (%s; %s there already)",
                counted(count, "image"),
                one_line(files.root),
                one_line(folder),
                f"{index.count * index.row_bytes / 1e6:,.1f} MB",
                f"{there:,}",
            )
        index = compact(folder, index, files, wanted)
    return _held(index, open(folder / index.pixels, "rb", buffering=0), wanted, set()), outcome


def _all_damaged(files: ImageFiles, paths: list[str], outcome: Outcome) -> bool:
    """Whether none of ``paths`` can be decoded, so that a cache need not be written to; if so, ``outcome`` has them."""
    damaged = {}
    for path in paths:
        try:
            decode(files.root / path, files.decoding)
        except DamagedError as error:
            damaged[path] = str(error)
        else:
            return False
    outcome.damaged.update(damaged)
    return True
