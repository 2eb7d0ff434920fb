"""The images and the configuration that the measurements of training share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from benchmarks import ROOT
from siamese.config.schema import Config
from siamese.config.validate import validate
from siamese.data import LabelledImages, load

BATCH = 64


@dataclass(frozen=True)
class Setup:
    """What the measurements share: how often, how many steps an epoch has, and on which images."""

    repeats: int
    epoch_steps: int
    data_root: Path | None

    def words(self, *more: str) -> list[str]:
        """What follows ``train.py`` to train VGG11 from random weights on these images."""
        images = [f"data.root={self.data_root}", "data=image_folder"] if self.data_root else []
        fixed = [f"data.batch_size={BATCH}", "model.pretrained=false", "trainer.max_epochs=1"]
        return [*images, *fixed, f"trainer.limit_train_batches={self.epoch_steps}", *more]

    def config(self, *more: str) -> Config:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return validate(compose("train", [*self.words(*more), "name=benchmark"]))

    @cached_property
    def source(self) -> LabelledImages:
        return load(self.config().data, seed=0) if self.data_root else random_images()


def random_images(train: int = 50_000, test: int = 10_000) -> LabelledImages:
    """uint8 noise [train + test, 3, 32, 32] in ten equal classes: CIFAR-10 in shape."""
    count = train + test
    return LabelledImages(
        torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        torch.arange(count) % 10,
        tuple(str(label) for label in range(10)),
        np.array([f"noise/{i:05d}" for i in range(count)]),
        np.arange(count) >= train,
    )
