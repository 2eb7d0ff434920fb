"""Which files are images: what Pillow reads, and what it reads with a plugin."""

from __future__ import annotations

import contextlib
import functools
import importlib
import warnings
from pathlib import PurePath

from PIL import Image

# Formats that Pillow knows and that have no pixels for it to read. EPS has: of a program that it would have run.
NO_PIXELS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS")
PLUGINS = {  # what reads a suffix that not every Pillow reads
    ".heic": "the package pillow-heif",
    ".heif": "the package pillow-heif",
    ".avif": "Pillow 11.3 or newer, or the package pillow-heif",
    ".avifs": "Pillow 11.3 or newer, or the package pillow-heif",
}


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats whose pixels can be read, as Pillow calls them."""
    Image.init()
    # Of a file that can be decoded all the same; what cannot be is said in one line, in words of ours.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    with contextlib.suppress(ImportError):
        heif = importlib.import_module("pillow_heif")
        heif.register_heif_opener()
        if "AVIF" not in Image.OPEN and hasattr(heif, "register_avif_opener"):
            heif.register_avif_opener()
    return tuple(name for name in Image.ID if name not in NO_PIXELS)


@functools.cache
def suffixes() -> frozenset[str]:
    """The suffixes of image files, in small letters; whether those of :data:`PLUGINS` can be read or not."""
    known = formats()
    return frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in known) | PLUGINS.keys()


def is_image_name(name: str) -> bool:
    """Whether ``name`` ends as an image file's does."""
    return PurePath(name).suffix.lower() in suffixes()


def plugin_wanted(name: str) -> str | None:
    """What would read a file of this ``name``, where nothing that is installed does."""
    suffix = PurePath(name).suffix.lower()
    formats()
    return PLUGINS.get(suffix) if suffix not in Image.EXTENSION else None
