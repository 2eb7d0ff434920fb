"""A training step against a notebook's, and an epoch through train.py's path against a bare loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import chain, islice, repeat
from multiprocessing import get_context
from typing import Any

import torch
import torchvision
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip

from benchmarks import HUGE_PAGES
from benchmarks.fitting import fit
from benchmarks.rate import flop_of, seconds_a_product, share_reached
from benchmarks.setup import BATCH, Setup
from benchmarks.timing import interleaved, now, paired_ratios, result
from siamese.config.schema import Config
from siamese.data import Batch, LabelledImages, SiameseData
from siamese.training.build import build, split_data
from siamese.training.precision import BF16, has_bf16, precision_of

NOTEBOOK_TRIPLETS, STEPS_A_TURN = 2048, 3


class Ours:
    """The project's batches, augmentation, network, objective, optimizer and precision."""

    def __init__(self, source: LabelledImages, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.data = split_data(config, source)
        self.device = config.device.accelerator
        self.module = build(config, self.data).to(self.device)
        self.optimizer = self.module.make_optimizer(self.module.parameter_groups())
        mixed = precision_of(config) == BF16
        self.precision = MixedPrecision("bf16-mixed", self.device) if mixed else Precision()
        self.batches = chain.from_iterable(repeat(self.data.loader))

    def with_pixels(self, batch: Batch) -> Batch:
        """``batch`` on the device, its images augmented where it is one to train on."""
        there = self.data.transfer_batch_to_device(batch, torch.device(self.device), 0)
        return self.data.on_after_batch_transfer(there, 0)

    def loss(self, batch: Batch) -> Tensor:
        """The scalar that a step minimises, without unit."""
        batch = self.with_pixels(batch)
        with self.precision.forward_context():
            return self.module.objective(self.module.net(batch.images), batch.labels, batch.tuples)[0]


class Notebook:
    """The same training as a notebook has it: float32 triplets in memory, every image transformed by
    itself, three passes through the network, torch's own layout, precision and Adam.

    Args:
        triplets: float32 [T, 3, 3, 32, 32] in [0, 1]; ``mean`` and ``std`` of each channel likewise.
        device: where the network is; images are transformed on the CPU.
    """

    def __init__(
        self,
        triplets: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        augment: bool = True,
        device: str = "cpu",
        batch: int = BATCH,
    ) -> None:
        random = [RandomCrop(32, padding=4), RandomHorizontalFlip()] if augment else []
        self.normalize, self.device = Normalize(mean, std), device
        self.triplets, self.transform = triplets, Compose([*random, self.normalize])
        # To be a data set for this loader takes no more than len() and [].
        self.loader: Any = torch.utils.data.DataLoader(self, batch, shuffle=True, num_workers=0)  # type: ignore[arg-type]
        self.batches = chain.from_iterable(repeat(self.loader))
        features = torchvision.models.vgg11().features
        self.net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 128)).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=5e-4)

    def __len__(self) -> int:
        return len(self.triplets)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        anchor, positive, negative = self.triplets[index]
        return self.transform(anchor), self.transform(positive), self.transform(negative)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """The scalar that a step minimises, without unit."""
        anchor, positive, negative = (self.net(images.to(self.device)) for images in batch)
        similar = nn.functional.cosine_similarity(anchor, positive)
        different = nn.functional.cosine_similarity(anchor, negative)
        return torch.relu(different - similar + 0.4).mean()


def train(loop: Ours | Notebook, steps: int) -> None:
    for batch in islice(loop.batches, steps):
        step(loop, batch)


def step(loop: Ours | Notebook, batch: Any) -> None:
    """An optimizer step on a batch of ``loop``."""
    loss = loop.loss(batch)
    loop.optimizer.zero_grad()
    loss.backward()
    loop.optimizer.step()


def seconds_a_step(loop: Ours | Notebook, steps: int = STEPS_A_TURN) -> float:
    """Seconds of one step, its data included: the mean of a turn."""
    began = now(loop.device)
    train(loop, steps)
    return (now(loop.device) - began) / steps


@cache
def notebook(setup: Setup) -> Notebook:
    data = SiameseData(setup.source, setup.config(f"device={setup.device}").data, seed=0)
    triplets = setup.source.images[data.epoch(0).items[:NOTEBOOK_TRIPLETS]] / 255
    return Notebook(triplets, data.mean, data.std, device=setup.device, batch=setup.batch)


def notebook_seconds(setup: Setup) -> float:
    """:func:`seconds_a_step` of the notebook of this process."""
    return seconds_a_step(notebook(setup))


@contextmanager
def notebooks_process() -> Iterator[Executor]:
    """A process with the settings of the allocator that a notebook has."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        os.environ[HUGE_PAGES] = "0"
        pool.submit(os.getpid).result()  # the process starts here
        os.environ[HUGE_PAGES] = "1"
        yield pool


def against_notebook(device: str, target: float, setup: Setup) -> list[dict[str, Any]]:
    """The seconds of the notebook's float32 step over those of ours under ``device=``, each in a process of
    its own, with the settings of the allocator that it would have; and the share of this machine's rate of matrix
    products that ours reaches, where the CPU computes in that precision."""
    with notebooks_process() as pool:
        there = replace(setup)  # without the images, which it makes or reads for itself
        config = setup.config(f"device={device}")
        mixed = precision_of(config) == BF16
        ours = Ours(setup.source, config)
        sides: dict[str, Callable[[], float]] = {
            "notebook": lambda: pool.submit(notebook_seconds, there).result(),
            "ours": partial(seconds_a_step, ours),
        }
        if not mixed or has_bf16("cpu")[0]:
            sides["product"] = partial(seconds_a_product, "cpu", torch.bfloat16 if mixed else torch.float32)
        samples = interleaved(sides, setup.repeats)
    ratios = paired_ratios(samples["notebook"], samples["ours"])
    what = f"a step of {setup.batch} triplets"
    found = [result(f"speed of {what}, of the notebook's", "×", ratios, "≥", target, **samples)]
    if "product" in samples:
        flop, of = flop_of(partial(ours.loss, next(ours.batches))), "bf16" if mixed else "float32"
        found.append(share_reached(f"{what} in {of}", "cpu", flop, samples["ours"], samples["product"]))
    return found


def fitted_epoch(source: LabelledImages, config: Config) -> float:
    """Seconds from the begin of the epoch to the end of fit: steps, validation, metrics and checkpoint."""
    times, device = list[float](), config.device.accelerator

    def note(*_: Any) -> None:
        times.append(now(device))

    fit(source, config, LambdaCallback(on_train_epoch_start=note, on_fit_end=note))
    return times[-1] - times[-2]


def bare_epoch(source: LabelledImages, config: Config) -> float:
    """Seconds of the same steps and the same pass over the validation images, and nothing else."""
    ours = Ours(source, config)
    began = now(ours.device)
    train(ours, int(config.trainer.limit_train_batches))
    with torch.inference_mode(), ours.precision.forward_context():
        ours.module.eval()
        for batch in ours.data.val_dataloader():
            ours.module(ours.with_pixels(batch).images)
    return now(ours.device) - began


def epoch(setup: Setup, device: str = "cpu") -> list[dict[str, Any]]:
    """An epoch through train.py's path under ``device=`` against a bare loop; both embed the validation images."""
    config = setup.config(f"device={device}")
    sides = {"fit": partial(fitted_epoch, setup.source, config), "bare": partial(bare_epoch, setup.source, config)}
    samples = interleaved(sides, setup.repeats)
    what = f"time of an epoch of {setup.epoch_steps} steps with validation and checkpoint, of a bare loop's"
    return [result(what, "×", paired_ratios(samples["fit"], samples["bare"]), "≤", 1.03, **samples)]
