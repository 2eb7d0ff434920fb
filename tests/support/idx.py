"""IDX files, as MNIST and its like are published."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np


def write_idx(path: Path, values: np.ndarray, compress: bool) -> None:
    """Bytes ``values`` of any shape in ``path``."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(struct.pack(">I", n) for n in values.shape)
    content = header + values.tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)


def digits(classes: int, per_class: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """``per_class`` images [n, 28, 28] of each of the ``classes``, a brighter square for each, and their labels [n]."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(classes).repeat(per_class)).astype(np.uint8)
    images = random.integers(0, 80, (len(labels), 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        y, x = divmod(int(label) % 12, 4)
        image[2 + 8 * y : 8 + 8 * y, 7 * x : 6 + 7 * x] += 150
    return images, labels
