"""Shared pieces of the tests: the command line as a user types it, and small data."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siamese.data import LabelledImages

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def train_cli() -> Cli:
    """``train_cli("seed=1", ...)`` runs ``python train.py seed=1 ...`` from the repository's root."""

    def run(*words: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "train.py", *map(str, words)],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run


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
