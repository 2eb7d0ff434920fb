"""Random draws as functions of their place: the same (seed, purpose, place) gives the same draw,
in any process, after any number of other draws."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """An independent generator for ``purpose`` at ``place`` (an epoch, say) under ``seed``."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *place])


def alternating(seed: int, column: int, images: int, epoch: int) -> np.ndarray:
    """A number in [0, 1) for each of ``images``, float32, that is half a turn further in each epoch than in the one
    before: what is below one half in one is not in the next. ``column`` says which of an augmentation's it is."""
    first = generator(seed, "alternating augmentation", column).random(images, dtype=np.float32)
    return (first + np.float32(0.5 * (epoch % 2))) % np.float32(1)
