"""A folder of small photographs, and a run trained on it with a loss that has class weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.images import coloured
from support.processes import Cli

COLOURS = {"blue": (40, 60, 200), "green": (50, 180, 60), "red": (200, 40, 50)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of each of three colours, of two shapes and two formats."""
    root, random = tmp_path_factory.mktemp("encoder") / "photos", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(60):
            image = coloured(colour, (24 if i % 2 else 20, 20), random)
            image.save(root / name / f"{i:02}.{'png' if i % 3 else 'jpg'}")
    return root


@pytest.fixture(scope="session")
def trained(photos: Path, train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on ``photos``; not to be changed."""
    where = tmp_path_factory.mktemp("encoder") / "run"
    words = "data=image_folder data.image_size=16 data.val_fraction=0.4 data.test_fraction=0.3 loss=normalized_softmax"
    words += " model=conv_small model.width=4 model.embedding_dim=16 optimizer.lr=1e-2 trainer.max_epochs=1 device=cpu"
    words += " data.batch_size=18 data.triplets=resampled evaluation.resamples=0 figures.draw=false"
    words += " callbacks.progress_bar=false"
    train_cli(*words.split(), f"data.root={photos}", f"data.cache_dir={where.parent}", f"hydra.run.dir={where}")
    return where


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of ``trained``, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
