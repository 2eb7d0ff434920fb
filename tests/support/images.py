"""Small data: images in memory, and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from siamese.data import LabelledImages


def toy_images(counts: list[int], size: int = 8, seed: int = 0, test: int = 0) -> LabelledImages:
    """Random images, ``counts[c]`` of class c in a shuffled order, the last ``test`` set apart."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    n = len(labels)
    return LabelledImages(
        torch.from_numpy(random.integers(0, 256, (n, 3, size, size), dtype=np.uint8)),
        torch.from_numpy(labels),
        tuple(f"class{c}" for c in range(len(counts))),
        np.array([f"image/{i:04d}" for i in range(n)]),
        np.arange(n) >= n - test,
    )


def write_folder(root: Path, counts: dict[str, int], size: tuple[int, int] = (40, 32), seed: int = 0) -> Path:
    """A folder of PNG images, ``counts[name]`` in ``root/name``."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03d}.png")
    return root


def coloured(colour: tuple[int, int, int], size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """Noise of a shade of ``colour``, ``size`` wide and high."""
    shade = random.integers(-90, 91, 3)
    noise = shade + random.integers(-40, 41, (size[1], size[0], 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))
