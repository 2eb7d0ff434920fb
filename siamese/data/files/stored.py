"""Decoded pixels in a file, of which what is asked for is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from siamese.decoding.names import one_line
from siamese.errors import RunError
from siamese.runs.files import atomic

FACTS = "facts.json"
AT_ONCE = 2**30  # bytes of one read; systems refuse more than 2 GiB
MOST_FACTS = 200  # of one collection; the oldest give way


class StoredImages:
    """Images uint8 [N, 3, H, W] that are rows of a file, read whenever they are asked for, by any thread.

    None is held in memory. Nor is the file mapped: pages of it that were looked at would count as this process's
    memory, and a collection larger than the machine's would seem to fill it.

    Args:
        file: the file of pixels, opened without a buffer; its name may be gone since.
        folder: where facts about these images are kept.
        rows: int64 [N], the row of each image.
        crcs: int64 [N], the CRC-32 of each image's pixels.
        size: height and width.
    """

    def __init__(
        self, file: IO[bytes], folder: Path, rows: np.ndarray, crcs: np.ndarray, size: tuple[int, int]
    ) -> None:
        self.shape = (len(rows), 3, *size)
        self._file, self._folder, self._rows, self._crcs, self._size = file, folder, rows, crcs, size

    @property
    def checksums(self) -> np.ndarray:
        """The CRC-32 of each image's pixels, uint32 [N]."""
        return self._crcs.astype(np.uint32)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any, /) -> Tensor:
        """The images at ``index``, int64 [n] or a slice, as a new tensor uint8 [n, 3, H, W].

        Raises:
            RunError: when the file has been cut short, or cannot be read.
        """
        rows = self._rows[index.numpy() if isinstance(index, Tensor) else index]
        images = torch.empty((*rows.shape, *self.shape[1:]), dtype=torch.uint8)
        flat, wanted = rows.reshape(-1), images.numpy().reshape(-1).data
        row_bytes = int(np.prod(self.shape[1:]))
        starts = np.flatnonzero(np.diff(flat, prepend=-2) != 1)  # of what lies together in the file
        ends = np.append(starts[1:], len(flat))[: len(starts)]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            self._read(wanted[start * row_bytes : end * row_bytes], int(flat[start]) * row_bytes)
        return images

    def _read(self, wanted: memoryview, place: int) -> None:
        while wanted:
            try:
                count = os.preadv(self._file.fileno(), [wanted[:AT_ONCE]], place)
            except OSError as error:
                raise RunError(f"{one_line(self._file.name)}: cannot be read ({error.strerror})") from None
            if not count:
                raise RunError(f"{one_line(self._file.name)}: was cut short while it was in use")
            wanted, place = wanted[count:], place + count

    def take(self, index: np.ndarray) -> StoredImages:
        """The images at ``index`` alone; none is read."""
        return StoredImages(self._file, self._folder, self._rows[index], self._crcs[index], self._size)

    def kept(self, name: str, key: str, compute: Callable[[], Any]) -> Any:
        """``compute()``, or what it gave before for these pixels, this ``name`` and ``key``, which says what else
        it depends on. Kept beside the pixels as JSON; where that cannot be written or read, it is computed."""
        digest = hashlib.blake2b(f"{name}\0{key}\0".encode(), digest_size=12)
        digest.update(str(self.shape).encode() + self._crcs.astype("<i8").tobytes())
        place = f"{name} {digest.hexdigest()}"
        stored = self._facts().get(place)
        if isinstance(stored, list) and len(stored) == 2 and stored[1] == _checksum(stored[0]):
            return stored[0]
        value = compute()
        facts = self._facts() | {place: [value, _checksum(value)]}
        with contextlib.suppress(RunError), atomic(self._folder / FACTS) as file:
            file.write(json.dumps(dict(list(facts.items())[-MOST_FACTS:]), indent=1).encode())
        return value

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads((self._folder / FACTS).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return facts if isinstance(facts, dict) else {}


def _checksum(value: Any) -> int:
    return zlib.crc32(json.dumps(value).encode())
