"""Image folders: found, fingerprinted, decoded in parallel once, and cached as one uint8 array."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from rich.progress import track

from siamese.data.images import LabelledImages
from siamese.errors import ConfigError, RunError
from siamese.memory import check_images_fit

log = logging.getLogger(__name__)

FORMAT = 1  # of the cache; raised when decoding changes
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def image_folder(root: str, image_size: int, cache_dir: str | None, decode_workers: int) -> LabelledImages:
    """``root/<class>/*`` or ``root/{train,test}/<class>/*``, resized to ``image_size`` (the
    shorter side, then the centre), in the order of the sorted file names.

    Args:
        cache_dir: where decoded pixels are kept; null is $XDG_CACHE_HOME/siamese, or else ~/.cache/siamese.
        decode_workers: how many images are decoded at a time.

    Raises:
        ConfigError: for a missing root, one without class folders, and classes that differ between
            train and test.
        RunError: for a file that is no image, or a damaged one.
    """
    folder = Path(root).expanduser()
    files, labels, names, is_test = find(folder)
    check_images_fit(len(files), image_size)
    cache = _cache_folder(cache_dir) / _key(folder, files, image_size)
    if not (cache / "images.npy").exists():
        _decode_into(cache, folder, files, image_size, decode_workers)
    images = np.load(cache / "images.npy", allow_pickle=False)
    return LabelledImages(
        torch.from_numpy(images),
        torch.from_numpy(labels),
        names,
        np.array([f.relative_to(folder).as_posix() for f in files]),
        is_test,
    )


def find(root: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...], np.ndarray]:
    """The image files under ``root`` with labels, class names and the mask of the test part."""
    if not root.is_dir():
        raise ConfigError(f"data.root={root}: no such folder")
    parts = [root / "train", root / "test"] if (root / "train").is_dir() and (root / "test").is_dir() else [root]
    classes = [sorted(d.name for d in _folders(part)) for part in parts]
    if not classes[0]:
        raise ConfigError(
            f"data.root={root}: expected one folder of images a class (root/<class>/* or "
            "root/{train,test}/<class>/*), found none"
        )
    if classes[0] != classes[-1]:
        odd = sorted(set(classes[0]) ^ set(classes[-1]))
        raise ConfigError(f"data.root={root}: train and test must have the same classes; only one has {', '.join(odd)}")
    files: list[Path] = []
    labels: list[int] = []
    is_test: list[bool] = []
    for part in parts:
        for label, name in enumerate(classes[0]):
            folder = part / name
            found = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
            if not found:
                raise RunError(f"{folder}: expected images, found none")
            files += found
            labels += [label] * len(found)
            is_test += [part.name == "test" and len(parts) == 2] * len(found)
    return files, np.array(labels), tuple(classes[0]), np.array(is_test)


def _folders(part: Path) -> list[Path]:
    return [d for d in part.iterdir() if d.is_dir() and not d.name.startswith(".")]


def _cache_folder(cache_dir: str | None) -> Path:
    if cache_dir:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamese"


def _key(root: Path, files: list[Path], size: int) -> str:
    """A name for the decoded pixels of exactly these files at this size."""
    digest = hashlib.blake2b(f"{FORMAT} {size}".encode(), digest_size=12)
    for file in files:
        stat = file.stat()
        digest.update(f"{file.relative_to(root).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _decode_into(cache: Path, root: Path, files: list[Path], size: int, workers: int) -> None:
    """Decode ``files`` into a folder beside ``cache`` and rename it; the first writer wins."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".decoding-", dir=cache.parent))
    except OSError as error:
        raise RunError(f"data.cache_dir={cache.parent}: cannot be written to ({error.strerror})") from None
    try:
        pixels = np.lib.format.open_memmap(
            work / "images.npy", mode="w+", dtype=np.uint8, shape=(len(files), 3, size, size)
        )
        with ThreadPoolExecutor(workers) as pool:
            decoded = pool.map(_decoder(size), files, chunksize=64)
            for i, image in enumerate(track(decoded, f"decoding {root}", total=len(files), transient=True)):
                pixels[i] = image
        pixels.flush()
        (work / "meta.json").write_text(json.dumps({"root": str(root.absolute()), "files": len(files), "size": size}))
        os.rename(work, cache)
        log.info("%s images of %s decoded to %s", f"{len(files):,}", root, cache)
    except OSError as error:
        if not (cache / "images.npy").exists():  # otherwise another process was first, with the same pixels
            raise RunError(f"{cache}: could not be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _decoder(size: int) -> Callable[[Path], np.ndarray]:
    def decode(file: Path) -> np.ndarray:
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
        except UnidentifiedImageError:
            raise RunError(f"{file}: not an image that can be read; expected {', '.join(SUFFIXES)}") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise RunError(f"{file}: the image is damaged ({error})") from None
        if upright.size != (size, size):
            upright = ImageOps.fit(upright, (size, size), method=Image.Resampling.BICUBIC)
        return np.asarray(upright).transpose(2, 0, 1)

    return decode
