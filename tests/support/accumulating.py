"""Small float64 training runs whose every gradient is kept, for the tests of accumulation."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn

from siamese.config.schema import Config
from siamese.config.validate import validate
from siamese.data import SiameseData
from siamese.models import EmbeddingNet, conv_small
from siamese.training.accumulation import Accumulation, Exact
from siamese.training.build import build, make_kind
from siamese.training.module import SiameseModule
from support.images import toy_images
from support.processes import ROOT

DIMENSION = 5


class Backbone(nn.Module):
    """One convolution and, if asked, dropout or BatchNorm."""

    def __init__(self, more: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.more = nn.Conv2d(3, 6, 3), more or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.more(self.conv(x)))


class NotedDropout(nn.Dropout):
    """Dropout that appends where it let through, in training, to the file NOTED_DROPOUT.RANK."""

    def forward(self, x: Tensor) -> Tensor:
        kept = super().forward(torch.ones_like(x))
        if self.training:
            with open(f"{os.environ['NOTED_DROPOUT']}.{os.environ.get('LOCAL_RANK', 0)}", "a") as file:
                file.write(f"{kept.flatten().int().tolist()}\n")
        return x * kept


@functools.wraps(conv_small)
def plain_net(mean: Any, std: Any, embedding_dim: int, **_: Any) -> EmbeddingNet:
    """A network without BatchNorm, in the place of conv_small."""
    return EmbeddingNet(Backbone(), 6, embedding_dim, mean, std)


@functools.wraps(conv_small)
def dropout_net(mean: Any, std: Any, embedding_dim: int, **_: Any) -> EmbeddingNet:
    """The same with dropout that is noted."""
    return EmbeddingNet(Backbone(NotedDropout(0.5)), 6, embedding_dim, mean, std)


class Biased(nn.Module):
    """Adds to what is evaluated what no other rank does."""

    def forward(self, x: Tensor) -> Tensor:
        rank = int(os.environ.get("LOCAL_RANK", 0))
        return x if self.training else x + torch.rand(x.shape, generator=torch.Generator().manual_seed(rank))


@functools.wraps(conv_small)
def biased_net(mean: Any, std: Any, embedding_dim: int, **_: Any) -> EmbeddingNet:
    """A network that finds other images near on every rank."""
    return EmbeddingNet(Backbone(Biased()), 6, embedding_dim, mean, std)


class NotedItems(pl.Callback):
    """Appends the items of every segment to the file NOTED_ITEMS.RANK."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        with open(f"{os.environ['NOTED_ITEMS']}.{trainer.global_rank}", "a") as file:
            file.write(f"{trainer.datamodule.state_dict()['items'].tolist()}\n")  # type: ignore[attr-defined]


def losses() -> list[str]:
    """The options of ``loss=``; one that is added to conf/loss joins the tests by that alone."""
    return sorted(file.stem for file in (ROOT / "conf" / "loss").glob("*.yaml"))


@functools.cache
def config(*words: str) -> Config:
    """A configuration with small images and embeddings; where the loss names the batches it can use and
    triplets are not among them, with class groups or else the first of those that it names."""
    fixed = ["model=conv_small", f"model.embedding_dim={DIMENSION}", "data=digits", "data.triplets=fixed"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        usable = compose("train", [*fixed, *words, "name=test"]).loss.get("batches") or ["triplets"]
        kind = [] if "triplets" in usable else [f"batches={usable[0]}"]
        if "triplets" not in usable and "balanced" in usable:
            kind = ["batches=balanced", "batches.images_per_class=2", "data.batch_size=4"]
        return validate(compose("train", [*fixed, *kind, *words, "name=test"]))


def make(
    *words: str,
    batch_size: int,
    accumulation: Accumulation | None = None,
    more: nn.Module | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[SiameseModule, SiameseData]:
    """A module and its data; the same weights and 35 triplets whatever the batch size."""
    torch.manual_seed(seed)
    asked = config(*words)
    settings = dataclasses.replace(
        asked.data,
        batch_size=batch_size,
        val_fraction=0.2,
        augment={"_target_": "siamese.data.augment.CropFlip", "crop_padding": 1, "flip": True},
    )
    data = SiameseData(toy_images([17, 17, 16], seed=seed), settings, seed, make_kind(asked))
    module = build(asked, data)
    torch.manual_seed(seed)
    module.net = EmbeddingNet(Backbone(more), 6, DIMENSION, data.mean, data.std)
    module.make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    if accumulation is not None:
        module.accumulation = accumulation
    return module.to(dtype), data


class Keeper(pl.Callback):
    """The gradients with which each optimizer step was taken, by parameter, and the loss that was logged."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, Tensor]] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.gradients.append({k: p.grad.clone() for k, p in pl_module.named_parameters() if p.grad is not None})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses += [outputs["terms"]["loss"].item()] if outputs["terms"] else []


def fit(
    module: SiameseModule,
    data: SiameseData,
    where: Path,
    *,
    window: int = 1,
    steps: int = 5,
    callbacks: Sequence[pl.Callback] = (),
    precision: str = "64-true",
    ckpt_path: Path | None = None,
    **more: Any,
) -> Keeper:
    """Train until ``steps`` optimizer steps; the weights are then in ``module``."""
    keeper = Keeper()
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=None if "plugins" in more else precision,  # type: ignore[arg-type]
        max_steps=steps,
        accumulate_grad_batches=window,
        callbacks=[keeper, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        default_root_dir=where,
        use_distributed_sampler=False,
        **more,
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return keeper


def exactly(
    *words: str, batch_size: int, window: int, where: Path, seed: int = 0, **more: Any
) -> tuple[SiameseModule, Keeper]:
    """Trained by exact accumulation of ``window`` micro-batches; ``more`` goes to :func:`fit`."""
    module, data = make(*words, batch_size=batch_size, accumulation=Exact(), seed=seed)
    return module, fit(module, data, where, window=window, **more)


def at_once(
    *words: str, batch_size: int, window: int, where: Path, seed: int = 0, **more: Any
) -> tuple[SiameseModule, Keeper]:
    """Trained on one large batch in the place of the window."""
    module, data = make(*words, batch_size=batch_size * window, seed=seed)
    return module, fit(module, data, where, **more)


def differences(one: dict[str, Tensor], other: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    """By name, how far ``one`` is from ``other``, relative to the norm of the other; a gradient that is
    nothing but rounding is relative to the largest norm of all."""
    assert one.keys() == other.keys()
    largest = max(float(value.norm()) for value in other.values())
    for name, value in other.items():
        yield name, float((one[name] - value).norm()) / max(float(value.norm()), 1e-4 * largest)


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    far = {name: by for name, by in differences(one, other) if not by <= tolerance}
    assert far == {}


def weights(module: SiameseModule) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.named_parameters()}


class Stop(pl.Callback):
    """Saves a checkpoint after so many steps, between two windows."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


def first_window(data: Any, window: int) -> list[Any]:
    data.loader.epoch, data.loader.position = lambda: 0, lambda: 0
    return [data.on_after_batch_transfer(batch, 0) for batch, _ in zip(data.loader, range(window), strict=False)]


class NoisyState(nn.Module):
    """Cross-entropy over cosines with a trained vector per class; as a whole it counts its calls."""

    batch_dependent = True

    def __init__(self) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(3, 5, generator=torch.Generator().manual_seed(0)))
        self.register_buffer("queue", torch.zeros(5))
        self.calls = 0

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Any) -> Tensor:
        self.calls += 1
        drawn = torch.rand(len(embeddings), 1, dtype=embeddings.dtype)  # as a miner that samples would
        scores = 5 * embeddings * (1 + drawn) @ nn.functional.normalize(self.proxies, dim=1).t()
        loss = nn.functional.cross_entropy(scores, labels) + (embeddings @ self.queue).square().mean()
        self.queue = embeddings.detach().mean(0)  # state from batch to batch, as a cross-batch memory has
        return loss


class CountedReductions(pl.Callback):
    """Writes to the file COUNTED.RANK how often gradients were reduced, and over how many steps."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.count = 0

        def reduced(state: Any, bucket: torch.distributed.GradBucket) -> torch.futures.Future[Tensor]:
            self.count += 1
            done: torch.futures.Future[Tensor] = torch.futures.Future()
            torch.distributed.all_reduce(bucket.buffer())
            done.set_result(bucket.buffer() / trainer.world_size)
            return done

        reduced.__annotations__ = {"bucket": torch.distributed.GradBucket, "return": torch.futures.Future[Tensor]}
        trainer.strategy.model.register_comm_hook(None, reduced)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with open(f"{os.environ['COUNTED']}.{trainer.global_rank}", "w") as file:
            file.write(f"{self.count} {trainer.global_step} {trainer.world_size} {trainer.accumulate_grad_batches}")
