"""A folder of small photographs in three classes, a run that was trained on it, and an index of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.images import coloured
from support.processes import Cli

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 40, 50)}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 images of each of three colours."""
    root, random = tmp_path_factory.mktemp("index") / "pictures", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(20):
            coloured(colour, (24, 20), random).save(root / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def network(pictures: Path, train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on ``pictures``; not to be changed."""
    where = tmp_path_factory.mktemp("index") / "run"
    words = "data=image_folder data.image_size=16 data.val_fraction=0.4 data.test_fraction=0.3 model=conv_small"
    words += " model.width=4 model.embedding_dim=16 trainer.max_epochs=1 device=cpu data.batch_size=6"
    words += " evaluation.resamples=0 figures.draw=false callbacks.progress_bar=false"
    train_cli(*words.split(), f"data.root={pictures}", f"data.cache_dir={where.parent}", f"hydra.run.dir={where}")
    return where


@pytest.fixture(scope="session")
def made(pictures: Path, network: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of ``pictures``; not to be changed."""
    where = tmp_path_factory.mktemp("index") / "pictures.index"
    cli("scripts/index.py", str(network), str(pictures), "--out", str(where))
    return where


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Path:
    """A copy of ``made``, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "pictures.index"))
