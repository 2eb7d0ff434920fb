"""Files decoded into the rows of a file of pixels."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from siamese.decoding.decode import DamagedError, Decoding, decode


class Done(NamedTuple):
    """What came of decoding some files: the CRC-32 of the pixels of each that has its row now, what was odd about it,
    and why each of the others could not be decoded; by their paths."""

    crcs: dict[str, int]
    notes: dict[str, list[str]]
    damaged: dict[str, str]


def decode_into(descriptor: int, first: int, root: Path, paths: Sequence[str], decoding: Decoding) -> Done:
    """Decode ``paths`` below ``root`` into the rows ``first``, ``first`` + 1, … of the file ``descriptor``. The row of
    a damaged one is left as it is.

    Raises:
        OSError: when the pixels cannot be written.
        RunError: when there is not the memory to decode one.
    """
    done = Done({}, {}, {})
    for row, path in enumerate(paths, first):
        try:
            pixels, notes = decode(root / path, decoding)
        except DamagedError as error:
            done.damaged[path] = str(error)
            continue
        content = np.ascontiguousarray(pixels).data
        write(descriptor, content, row * content.nbytes)
        done.crcs[path] = zlib.crc32(content)
        if notes:
            done.notes[path] = list(notes)
    return done


def write(descriptor: int, content: Any, place: int) -> None:
    """Write all bytes of ``content`` at ``place``.

    Raises:
        OSError: when that fails.
    """
    left = memoryview(content).cast("B")
    while left:
        count = os.pwrite(descriptor, left, place)
        left, place = left[count:], place + count
