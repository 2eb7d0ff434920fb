"""Shared pieces of the tests: the command line as a user types it, and small data."""

from __future__ import annotations

import functools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# One thread a process: two tests run side by side, and threads that wait for each other cost far more.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from forkserver import ForkServer
from PIL import Image

from siamese.data import LabelledImages

ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)

Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def cli(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """``cli("train.py", "seed=1", ...)`` runs ``python train.py seed=1 ...`` from the repository's root."""
    folder = tmp_path_factory.mktemp("cli")

    def run(*argv: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        stdout, stderr = folder / "stdout", folder / "stderr"
        for file in (stdout, stderr):
            file.unlink(missing_ok=True)
        whole = {**os.environ, "COLUMNS": "200", **environment}
        status = server.run(*argv, stdout=stdout, stderr=stderr, environment=whole)
        done = subprocess.CompletedProcess([*map(str, argv)], status, stdout.read_text(), stderr.read_text())
        if check and status != 0:
            raise AssertionError(f"exit status {status}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def train_cli(cli: Cli) -> Cli:
    """``train_cli("seed=1", ...)`` runs ``python train.py seed=1 ...`` from the repository's root."""
    return functools.partial(cli, "train.py")


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until ``condition``, which ``process`` is to bring about."""
    ends = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.02)


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
