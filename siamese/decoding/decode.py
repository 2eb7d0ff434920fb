"""One file as the pixels of an image."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from siamese.config.values import height_width
from siamese.decoding.colour import colours
from siamese.decoding.formats import formats, plugin_wanted
from siamese.decoding.names import one_line
from siamese.decoding.resize import fitted
from siamese.errors import RunError
from siamese.memory import total_memory

LARGE = 2**28  # pixels; more are held against the memory of this machine before they are decoded
REDUCED = 4  # times the size wanted: from there on, a JPEG file is decoded at a fraction of its own
# EXIF's Orientation, and what brings such an image upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FRAMES = "several frames or pages, of which the first counts"
NO_EXIF = "EXIF data that cannot be read, taken to be upright"
ONE_IMAGE = ("MPO", "PSD")  # formats whose later frames are a preview, a depth map, a layer


@dataclass(frozen=True)
class Decoding:
    """How files become pixels, and where those are kept: the keys of ``data`` of these names."""

    image_size: int | list[int]
    fit: str
    background: list[int]
    damaged: str
    cache_dir: str | None
    decode_workers: int

    @property
    def size(self) -> tuple[int, int]:
        return height_width(self.image_size)


class Decoded(NamedTuple):
    """``pixels``, uint8 [3, H, W], and ``notes``: what was odd about the file, as the end of "3 images with …"."""

    pixels: np.ndarray
    notes: tuple[str, ...]


class DamagedError(Exception):
    """A file from which no image can be had, and why, without the file's name."""


def decode(file: Path | io.BytesIO, decoding: Decoding) -> Decoded:
    """The image in ``file``, or in the content of one: upright, without transparency, as large as ``decoding`` says.

    Raises:
        DamagedError: for a file that is no image, a damaged one, and one that nothing installed can read.
        RunError: when there is not the memory to decode it.
    """
    name = file if isinstance(file, Path) else "an image"
    with _damage_named(name), _of_any_size(), Image.open(file, formats=formats()) as image:
        return _decode(image, decoding)


def decode_image(image: Image.Image, decoding: Decoding) -> Decoded:
    """:func:`decode` of an image that is open already, which is left as it is. It is decoded whole, where a large JPEG
    file would be at a fraction of its size.

    Raises:
        DamagedError: for an image whose file turns out to be damaged.
        RunError: when there is not the memory for it.
    """
    with _damage_named("an image"):
        return _decode(image.copy(), decoding)  # loading, seeking and turning change it


@contextlib.contextmanager
def _damage_named(file: Path | str) -> Iterator[None]:
    """Turn whatever a decoder raises into the errors of :func:`decode`."""
    try:
        yield
    except UnidentifiedImageError:
        wanted = plugin_wanted(Path(file).name)
        raise DamagedError(f"can be read with {wanted} only" if wanted else "not an image that can be read") from None
    except DamagedError:
        raise
    except MemoryError:
        raise RunError(f"{one_line(file)}: too little memory is free to decode it") from None
    except OSError as error:
        raise DamagedError(error.strerror or str(error)) from None
    except Exception as error:  # a damaged file raises whatever its decoder meets first
        raise DamagedError(f"damaged ({' '.join(str(error).split()) or type(error).__name__})") from None


def _decode(image: Image.Image, decoding: Decoding) -> Decoded:
    height, width = decoding.size
    notes = []
    if image.format in ("JPEG", "MPO") and min(image.size) >= REDUCED * max(height, width):
        image.draft(None, (2 * max(height, width),) * 2)  # at least twice the size wanted
    _check_memory(image)
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # as above
        turn, notes = None, [NO_EXIF]
    coloured, note = colours(image, tuple(decoding.background))
    if note:
        notes.append(note)
    upright = coloured if turn is None else coloured.transpose(turn)
    pixels = fitted(upright, decoding.size, decoding.fit, tuple(decoding.background))
    if image.format not in ONE_IMAGE and _has_more(image):
        notes.append(FRAMES)
    return Decoded(pixels, tuple(notes))


def _has_more(image: Image.Image) -> bool:
    """Whether there is a frame after the first; one that is damaged does not matter."""
    try:
        image.seek(1)
    except Exception:
        return False
    return True


def _check_memory(image: Image.Image) -> None:
    pixels, there = image.width * image.height, total_memory() if image.width * image.height > LARGE else None
    needed = pixels * 14  # as decoded, in RGB, and as what is resized
    if there is not None and needed > there:
        raise DamagedError(
            f"{image.width:,} x {image.height:,} pixels would take {needed / 1e9:,.1f} GB to decode; this machine has "
            f"{there / 1e9:,.1f} GB"
        )


_lifting = threading.Lock()
_lifted: list[int | None] = []  # of each decoder that works without a limit, what it found: the first, Pillow's


@contextlib.contextmanager
def _of_any_size() -> Iterator[None]:
    """Without Pillow's limit on an image's pixels, which is one for all threads: large photographs are no attacks."""
    with _lifting:
        _lifted.append(Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        with _lifting:
            limit = _lifted.pop()
            if not _lifted:
                Image.MAX_IMAGE_PIXELS = limit
