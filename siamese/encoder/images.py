"""Images as a person hands them over, brought to the pixels that a network was trained on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from siamese.decoding.decode import DamagedError, Decoded, Decoding, decode, decode_image
from siamese.decoding.names import counted, few, one_line
from siamese.decoding.present import check_files
from siamese.errors import ConfigError, nearest

AHEAD = 1  # blocks that are decoded while one is embedded
EXPECTED = "expected paths, PIL images, uint8 pixels, or a table with a column path"

Item = Path | Image.Image | np.ndarray  # an array is uint8 [3, H, W]


@dataclass(frozen=True)
class Block:
    """Some images, decoded.

    Attributes:
        pixels: uint8 [n, 3, H, W], without those of damaged files.
        positions: of each, among all.
        damaged: by the position of a damaged one, what is wrong with it.
        notes: by the position of an image about which something was odd, what.
        count: of images that it is of.
    """

    pixels: Tensor
    positions: list[int]
    damaged: dict[int, str]
    notes: dict[int, tuple[str, ...]]
    count: int


def items_of(images: Any) -> list[Item]:
    """``images`` one by one: a path, a PIL image, uint8 pixels [N, 3, H, W] or [N, H, W, 3] (without N, one image), a
    table (a DataFrame) of paths in its column ``path``, or any of these but the table in a row.

    Raises:
        ConfigError: for anything else, and for paths that lead to no file.
    """
    items = [item for one in _rows(images) for item in _items(one)]
    check_files([item for item in items if isinstance(item, Path)])
    return items


def name_of(item: Item, position: int) -> str:
    """What an error calls an image."""
    return one_line(item) if isinstance(item, Path) else f"image {position}"


def blocks(items: Sequence[Item], decoding: Decoding, size: int) -> Generator[Block]:
    """``items`` decoded by several threads, ``size`` at a time and a block ahead of what is asked for.

    Raises:
        RunError: when there is not the memory to decode one.
    """
    waiting: deque[tuple[int, list[Future[Decoded]]]] = deque()
    pool = ThreadPoolExecutor(workers(), "decode")
    try:
        for start in range(0, len(items), size):
            some = [pool.submit(_pixels, item, decoding) for item in items[start : start + size]]
            waiting.append((start, some))
            if len(waiting) > AHEAD:
                yield _gathered(*waiting.popleft(), decoding)
        while waiting:
            yield _gathered(*waiting.popleft(), decoding)
    finally:
        pool.shutdown(cancel_futures=True)


def damage(items: Sequence[Item], damaged: Mapping[int, str]) -> str:
    """What is wrong with some of ``items``, in one line."""
    said = [f"{name_of(items[position], position)}: {reason}" for position, reason in damaged.items()]
    if len(said) == 1:
        return said[0]
    return f"{counted(len(said), 'image')} of {len(items):,} cannot be read: {few(said)}"


def workers() -> int:
    """Threads that decode at a time: one a processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gathered(start: int, futures: Sequence[Future[Decoded]], decoding: Decoding) -> Block:
    pixels: dict[int, np.ndarray] = {}
    damaged: dict[int, str] = {}
    notes: dict[int, tuple[str, ...]] = {}
    for position, future in enumerate(futures, start):
        try:
            pixels[position], odd = future.result()
        except DamagedError as error:
            damaged[position] = str(error)
            continue
        if odd:
            notes[position] = odd
    whole = np.stack(list(pixels.values())) if pixels else np.empty((0, 3, *decoding.size), np.uint8)
    return Block(torch.from_numpy(whole), list(pixels), damaged, notes, len(futures))


def _pixels(item: Item, decoding: Decoding) -> Decoded:
    if isinstance(item, Path):
        return decode(item, decoding)
    if isinstance(item, np.ndarray):
        if item.shape[1:] == decoding.size:
            return Decoded(item, ())
        item = Image.fromarray(np.ascontiguousarray(item.transpose(1, 2, 0)))
    return decode_image(item, decoding)


def _rows(images: Any) -> Iterable[Any]:
    """What ``images`` is a row of; a single image is a row of one."""
    if isinstance(images, (str, os.PathLike, Image.Image)) or _is_pixels(images):
        return [images]
    if hasattr(images, "columns"):
        columns = [str(name) for name in images.columns]
        if "path" not in columns:
            near = nearest("path", columns)
            raise ConfigError(f"images: expected a table with a column path, found {few(columns) or 'none'}{near}")
        return list(images["path"])
    if isinstance(images, (Mapping, bytes)) or not isinstance(images, Iterable):
        raise ConfigError(f"images: {EXPECTED}; found {type(images).__name__}")
    return images


def _items(one: Any) -> list[Item]:
    if isinstance(one, (str, os.PathLike)):
        return [Path(one).expanduser()]
    if isinstance(one, Image.Image):
        return [one]
    if _is_pixels(one):
        return _arrays(one)
    raise ConfigError(f"images: {EXPECTED}; found {type(one).__name__} ({one_line(repr(one))[:40]}) among them")


def _is_pixels(value: Any) -> bool:
    """Whether ``value`` is an array of numbers, be they pixels or not."""
    return isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biufc")


def _arrays(given: Tensor | np.ndarray) -> list[Item]:
    """uint8 [3, H, W], one an image."""
    if given.dtype not in (torch.uint8, np.dtype(np.uint8)):
        raise ConfigError(f"images: expected pixels as uint8, 0 to 255, found {given.dtype}")
    whole = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    whole = whole[None] if whole.ndim == 3 else whole
    first, last = (whole.ndim == 4 and whole.shape[axis] == 3 for axis in (1, 3))
    if first == last:
        either = ", which could be either" if first else ""
        raise ConfigError(
            f"images: expected pixels [N, 3, H, W] or [N, H, W, 3], found shape {list(given.shape)}{either}"
        )
    return list(whole if first else whole.transpose(0, 3, 1, 2))
