"""Random draws as functions of their place: the same (seed, purpose, place) gives the same draw,
in any process, after any number of other draws."""

from __future__ import annotations

import zlib

import numpy as np


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """An independent generator for ``purpose`` at ``place`` (an epoch, say) under ``seed``."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *place])
