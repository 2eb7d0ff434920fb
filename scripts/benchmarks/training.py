"""A training step against a notebook's, and an epoch through train.py's path against a bare loop."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import chain, islice, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torchvision
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip

from benchmarks import HUGE_PAGES
from benchmarks.setup import BATCH, Setup
from benchmarks.timing import interleaved, paired_ratios, result
from siamese.config.schema import Config
from siamese.data import Batch, LabelledImages, SiameseData
from siamese.runs.directory import RunDirectory
from siamese.runs.locks import release
from siamese.training.build import build, make_trainer, split_data
from siamese.training.checkpoints import Checkpoints
from siamese.training.precision import BF16, precision_of
from siamese.training.recorder import Recorder
from siamese.training.signals import StopRequest

NOTEBOOK_TRIPLETS, STEPS_A_TURN = 2048, 3


class Ours:
    """The project's batches, augmentation, network, objective, optimizer and precision."""

    def __init__(self, source: LabelledImages, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.data = split_data(config, source)
        self.module = build(config, self.data)
        self.optimizer = self.module.make_optimizer(self.module.parameter_groups())
        mixed = precision_of(config) == BF16
        self.precision = MixedPrecision("bf16-mixed", "cpu") if mixed else Precision()
        self.batches = chain.from_iterable(repeat(self.data.loader))

    def loss(self, batch: Batch) -> Tensor:
        """The scalar that a step minimises, without unit."""
        batch = self.data.on_after_batch_transfer(batch, 0)
        with self.precision.forward_context():
            return self.module.objective(self.module.net(batch.images), batch.labels, batch.tuples)[0]


class Notebook:
    """The same training as a notebook has it: float32 triplets in memory, every image transformed by
    itself, three passes through the network, torch's own layout, precision and Adam.

    Args:
        triplets: float32 [T, 3, 3, 32, 32] in [0, 1]; ``mean`` and ``std`` of each channel likewise.
    """

    def __init__(self, triplets: Tensor, mean: Sequence[float], std: Sequence[float], augment: bool = True) -> None:
        random = [RandomCrop(32, padding=4), RandomHorizontalFlip()] if augment else []
        self.triplets, self.transform = triplets, Compose([*random, Normalize(mean, std)])
        # To be a data set for this loader takes no more than len() and [].
        loader: Any = torch.utils.data.DataLoader(self, BATCH, shuffle=True, num_workers=0)  # type: ignore[arg-type]
        self.batches = chain.from_iterable(repeat(loader))
        features = torchvision.models.vgg11().features
        self.net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 128))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=5e-4)

    def __len__(self) -> int:
        return len(self.triplets)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        anchor, positive, negative = self.triplets[index]
        return self.transform(anchor), self.transform(positive), self.transform(negative)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """The scalar that a step minimises, without unit."""
        anchor, positive, negative = (self.net(images) for images in batch)
        similar = nn.functional.cosine_similarity(anchor, positive)
        different = nn.functional.cosine_similarity(anchor, negative)
        return torch.relu(different - similar + 0.4).mean()


def train(loop: Ours | Notebook, steps: int) -> None:
    for batch in islice(loop.batches, steps):
        loss = loop.loss(batch)
        loop.optimizer.zero_grad()
        loss.backward()
        loop.optimizer.step()


def seconds_a_step(loop: Ours | Notebook) -> float:
    """Seconds of one step, its data included: the mean of a turn."""
    began = time.perf_counter()
    train(loop, STEPS_A_TURN)
    return (time.perf_counter() - began) / STEPS_A_TURN


@cache
def notebook(setup: Setup) -> Notebook:
    data = SiameseData(setup.source, setup.config("device=cpu").data, seed=0)
    return Notebook(setup.source.images[data.epoch(0).items[:NOTEBOOK_TRIPLETS]] / 255, data.mean, data.std)


def notebook_seconds(setup: Setup) -> float:
    """:func:`seconds_a_step` of the notebook of this process."""
    return seconds_a_step(notebook(setup))


def against_notebook(device: str, target: float, setup: Setup) -> list[dict[str, Any]]:
    """The seconds of the notebook's float32 step over those of ours under ``device=``, each in a process of
    its own, with the settings of the allocator that it would have."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = replace(setup)  # without the images, which it makes or reads for itself
        os.environ[HUGE_PAGES] = "0"
        pool.submit(notebook_seconds, there).result()  # the process starts here
        os.environ[HUGE_PAGES] = "1"
        ours = Ours(setup.source, setup.config(f"device={device}"))
        sides: dict[str, Callable[[], float]] = {
            "notebook": lambda: pool.submit(notebook_seconds, there).result(),
            "ours": partial(seconds_a_step, ours),
        }
        samples = interleaved(sides, setup.repeats)
    ratios = paired_ratios(samples["notebook"], samples["ours"])
    return [result(f"speed of a step of {BATCH} triplets, of the notebook's", "×", ratios, "≥", target, **samples)]


def fitted_epoch(source: LabelledImages, config: Config) -> float:
    """Seconds from the begin of the epoch to the end of fit: steps, validation, metrics and checkpoint."""
    torch.manual_seed(config.seed)
    data = split_data(config, source)
    module, began = build(config, data), list[float]()
    clock = LambdaCallback(on_train_epoch_start=lambda *_: began.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        run = RunDirectory(Path(folder))
        recorder = Recorder(run, config.callbacks)
        checkpoints = Checkpoints(run, stop, recorder.require_finite)
        make_trainer(config, run.path, [clock, recorder, checkpoints]).fit(module, datamodule=data)
        seconds = time.perf_counter() - began[-1]
        release(run.path)
    return seconds


def bare_epoch(source: LabelledImages, config: Config) -> float:
    """Seconds of the same steps and the same pass over the validation images, and nothing else."""
    ours = Ours(source, config)
    began = time.perf_counter()
    train(ours, int(config.trainer.limit_train_batches))
    with torch.inference_mode():
        ours.module.eval()
        for batch in ours.data.val_dataloader():
            ours.module(ours.data.on_after_batch_transfer(batch, 0).images)
    return time.perf_counter() - began


def epoch(setup: Setup) -> list[dict[str, Any]]:
    """An epoch through train.py's path against a bare loop; both embed the validation images."""
    config = setup.config("device=cpu")
    sides = {"fit": partial(fitted_epoch, setup.source, config), "bare": partial(bare_epoch, setup.source, config)}
    samples = interleaved(sides, setup.repeats)
    what = f"time of an epoch of {setup.epoch_steps} steps with validation and checkpoint, of a bare loop's"
    return [result(what, "×", paired_ratios(samples["fit"], samples["bare"]), "≤", 1.03, **samples)]
