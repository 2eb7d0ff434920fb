"""Shared pieces of the tests: the command line as a user types it, and small data."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# One thread a process: two tests run side by side, and threads that wait for each other cost far more.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from support.forkserver import ForkServer
from support.processes import ROOT, Cli

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What was imported stays: to look for garbage among it, again and again, takes a fifth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def cli(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """``cli("train.py", "seed=1", ...)`` runs ``python train.py seed=1 ...`` from the repository's root."""
    folder = tmp_path_factory.mktemp("cli")

    def run(
        *argv: object, check: bool = True, cwd: Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        stdout, stderr = folder / "stdout", folder / "stderr"
        for file in (stdout, stderr):
            file.unlink(missing_ok=True)
        whole = {**os.environ, "COLUMNS": "200", **environment}
        status = server.run(*argv, stdout=stdout, stderr=stderr, environment=whole, cwd=cwd)
        done = subprocess.CompletedProcess([*map(str, argv)], status, stdout.read_text(), stderr.read_text())
        if check and status != 0:
            raise AssertionError(f"exit status {status}\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture(scope="session")
def train_cli(cli: Cli) -> Cli:
    """``train_cli("seed=1", ...)`` runs ``python train.py seed=1 ...`` from the repository's root."""
    return functools.partial(cli, "train.py")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium. Tests of pages are skipped where none is on the PATH, unless SIAMESE_CHROMIUM=required."""
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if found is None:
        if os.environ.get("SIAMESE_CHROMIUM") == "required":
            pytest.fail("SIAMESE_CHROMIUM=required, and there is no chromium on the PATH")
        pytest.skip("no chromium on the PATH (apt-get install chromium)")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()
