"""A folder with all that folders of photographs have in them, and image files of every kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

CLASSES = ("plain", "odd names $x_1$ [%s] é", "b\udcffytes")


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, channels], smooth enough to be resized."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    layers = [Image.fromarray(small[..., c]).resize((width, height)) for c in range(channels)]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)


def _oriented(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 30)).save(path, exif=exif)


def _palette(path: Path) -> None:
    image = Image.fromarray(noise(20, 30)).quantize(16)
    image.save(path, transparency=0)


def _frames(path: Path) -> None:
    first, *more = (Image.fromarray(noise(20, 30, seed=seed)) for seed in range(3))
    first.save(path, save_all=True, append_images=more)


def _sixteen(path: Path) -> None:
    values = noise(20, 30, 1)[..., 0].astype(np.uint16) * 257
    values[0, 0] = 65535
    Image.fromarray(values).save(path)


def _twelve(path: Path) -> None:
    Image.fromarray(noise(20, 30, 1)[..., 0].astype(np.uint16) * 16).save(path)


def _float(path: Path) -> None:
    Image.fromarray(noise(20, 30, 1)[..., 0].astype(np.float32) / 1000 - 0.1).save(path)


def _converted(mode: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(noise(20, 30)).convert(mode).save(path)


def _transparent(mode: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(noise(20, 30, 4)).convert(mode).save(path)


def _profile_broken(path: Path) -> None:
    Image.fromarray(noise(20, 30)).convert("CMYK").save(path, icc_profile=b"no profile")


def _profile_srgb(path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(noise(20, 30)).save(path, icc_profile=profile)


def _of_size(height: int, width: int) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(noise(height, width)).save(path)


# Every kind of file, by a name that ends as it should.
FILES: dict[str, Callable[[Path], None]] = {
    "oriented.jpg": _oriented,
    "oriented.tif": _oriented,
    "palette.png": _palette,
    "one bit.png": _converted("1"),
    "grey.jpg": _converted("L"),
    "grey and alpha.png": _transparent("LA"),
    "alpha.png": _transparent("RGBA"),
    "alpha.webp": _transparent("RGBA"),
    "sixteen.png": _sixteen,
    "sixteen.tif": _sixteen,
    "twelve.png": _twelve,
    "float.tif": _float,
    "cmyk.jpg": _converted("CMYK"),
    "cmyk broken profile.jpg": _profile_broken,
    "profile.jpg": _profile_srgb,
    "ycbcr.jpg": _converted("YCbCr"),
    "lab.tif": _converted("LAB"),
    "frames.gif": _frames,
    "frames.webp": _frames,
    "pages.tiff": _frames,
    "long.png": _of_size(1, 5000),
    "dot.png": _of_size(1, 1),
    "large.jpg": _of_size(600, 800),
    "CAPITALS.JPG": _of_size(20, 30),
}


def write_messy(root: Path) -> dict[str, list[str]]:
    """Write to ``root`` three classes with every file of :data:`FILES`, nested, and all that is to be skipped.

    Returns:
        the paths of each class's images, relative to ``root``, sorted as they are to be found.
    """
    images: dict[str, list[str]] = {}
    for name in CLASSES:
        for i, (file, write) in enumerate(FILES.items()):
            below = ("", "more/", "more/and more/")[i % 3]
            path = root / name / below / file
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            images.setdefault(name, []).append(f"{name}/{below}{file}")
    for odd in ("new\nline.png", "percent %d.png", "dollar $a.png", "brackets [0].png", "b\udcfeyte.png"):
        _of_size(20, 30)(root / CLASSES[2] / odd)
        images[CLASSES[2]].append(f"{CLASSES[2]}/{odd}")
    for paths in images.values():
        paths.sort(key=lambda path: path.split("/"))
    first = root / CLASSES[0]
    for path in (first / "notes.txt", first / "more" / "README", root / "list.csv"):
        path.write_text("no image")
    _of_size(20, 30)(root / "loose.png")
    for hidden in (first / ".DS_Store", first / "._oriented.jpg", first / "Thumbs.db", root / ".git" / "x.png"):
        hidden.parent.mkdir(exist_ok=True)
        hidden.write_bytes(b"\0\0")
    (root / "__MACOSX" / "plain").mkdir(parents=True)
    (root / "__MACOSX" / "plain" / "x.png").write_bytes(b"\0")
    (root / "empty").mkdir()
    (first / "gone.png").symlink_to(root / "nowhere.png")
    (first / "itself.png").symlink_to(first / "itself.png")
    (first / "more" / "up").symlink_to(root)
    os.mkfifo(first / "pipe.png")
    return images
