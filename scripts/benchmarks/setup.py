"""The images and the configuration that the measurements of training share."""

from __future__ import annotations

from collections.abc import Sequence
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
    """What the measurements share: how often, how many steps an epoch has, on which images and on what.

    Attributes:
        data_root: a folder of images; without one they are random.
        device: cpu or cuda, for what is measured on either.
        quality_seconds: of training, that each has to reach a quality.
        images: how many random images, to train on and to test with.
        batch: triplets a step, where the configuration does not say otherwise.
        also: what follows ``train.py`` last, whatever is measured.
    """

    repeats: int
    epoch_steps: int
    data_root: Path | None
    device: str = "cpu"
    quality_seconds: int = 1200
    images: tuple[int, int] = (50_000, 10_000)
    batch: int = BATCH
    also: tuple[str, ...] = ()

    def words(self, *more: str) -> list[str]:
        """What follows ``train.py`` to train VGG11 from random weights on these images."""
        fixed = [f"data.batch_size={self.batch}", "trainer.max_epochs=1"]
        return self.experiment(*fixed, f"trainer.limit_train_batches={self.epoch_steps}", *more)

    def experiment(self, *words: str) -> list[str]:
        """What follows ``train.py`` to train as ``words`` say, from random weights on these images."""
        images = [f"data.root={self.data_root}", "data=image_folder"] if self.data_root else []
        return [*images, "model.pretrained=false", *words, *self.also]

    def config(self, *more: str) -> Config:
        """The configuration of :meth:`words`."""
        return composed(self.words(*more))

    @cached_property
    def source(self) -> LabelledImages:
        return load(self.config().data, seed=0) if self.data_root else random_images(*self.images)


def composed(words: Sequence[str]) -> Config:
    """The configuration of ``python train.py WORDS...``."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return validate(compose("train", [*words, "name=benchmark"]))


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
