"""One file as the pixels of an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from siamese.config.values import height_width
from siamese.errors import RunError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


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


def decode(file: Path, decoding: Decoding) -> np.ndarray:
    """The image in ``file``, uint8 [3, H, W].

    Raises:
        RunError: for a file that is no image, or a damaged one.
    """
    height, width = decoding.size
    try:
        with Image.open(file) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise RunError(f"{file}: not an image that can be read; expected {', '.join(SUFFIXES)}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(f"{file}: the image is damaged ({error})") from None
    if upright.size != (width, height):
        upright = ImageOps.fit(upright, (width, height), method=Image.Resampling.BICUBIC)
    return np.asarray(upright).transpose(2, 0, 1)
