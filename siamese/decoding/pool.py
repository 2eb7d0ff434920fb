"""Several threads that decode files at once: neither Pillow nor torch keeps the others from it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from siamese.decoding.decode import Decoding
from siamese.decoding.rows import Done, decode_into

TOGETHER = 16  # files that are decoded before they are counted as such: what an interrupt loses of each thread


def decode_in_threads(
    descriptor: int, first: int, root: Path, paths: Sequence[str], decoding: Decoding
) -> Generator[tuple[int, Sequence[str], Done]]:
    """Decode ``paths`` below ``root`` by ``data.decode_workers`` threads into the rows ``first``, ``first`` + 1, … of
    the file ``descriptor``, which no thread writes to any more once this generator is closed.

    Yields:
        The first row, paths and outcome of some of the files, in their order.

    Raises:
        OSError: when pixels cannot be written.
        RunError: when there is not the memory to decode one.
    """
    tasks = [(first + at, paths[at : at + TOGETHER]) for at in range(0, len(paths), TOGETHER)]
    threads = ThreadPoolExecutor(decoding.decode_workers, "decode")
    try:
        outcomes = threads.map(lambda task: decode_into(descriptor, task[0], root, task[1], decoding), tasks)
        for (row, some), done in zip(tasks, outcomes, strict=True):
            yield row, some, done
    finally:
        threads.shutdown(cancel_futures=True)
