"""Averaged weights: measured and kept in the place of those that are trained."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from siamese.config.schema import Config
from siamese.data.draws import generator
from siamese.training.module import SiameseModule

log = logging.getLogger(__name__)

RAW = "raw"  # where a checkpoint has the weights that training goes on with


class Averaging(pl.callbacks.Callback):
    """A mean of the weights, and of the running statistics of norms. Validation sees the mean, and ``state_dict`` of a
    checkpoint is the mean, so that whoever loads it need not know; the weights that training goes on with are beside
    it. Until there is a mean, the weights are as they are.

    What is averaged, and when, is for a subclass to say.
    """

    def __init__(self) -> None:
        self.mean: dict[str, Tensor] = {}
        self._aside: dict[str, Tensor] = {}  # what is trained, while the mean is in its place

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and self.mean:
            self._aside = taken(pl_module)
            put(pl_module, self.mean)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and self._aside:
            put(pl_module, self._aside)
            self._aside = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not self.mean:
            return
        state = checkpoint["state_dict"]
        trained = self._aside or state  # during validation the mean is in their place
        checkpoint[RAW] = {name: trained[name] for name in self.mean}
        checkpoint["state_dict"] = {**state, **self.mean}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if RAW not in checkpoint:
            return
        state = checkpoint["state_dict"]
        self.mean = {name: state[name].to(value.device, copy=True) for name, value in averaged(pl_module)}
        put(pl_module, checkpoint[RAW])


class Exponential(Averaging):
    """The mean over the steps so far, the weights of a step ago counting ``decay`` as much (Polyak and Juditsky 1992;
    Tarvainen and Valpola 2017, Mean teachers, section 2).

    At first less is remembered: ``decay`` after t steps is at most (1 + t) / (10 + t), so that the random weights of
    the beginning are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.steps = 0

    @property
    def state_key(self) -> str:
        return "Averaging"

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mean = self.mean or taken(pl_module)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:  # within a window
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps = trainer.global_step
        for name, value in averaged(pl_module):
            mean = self.mean[name] = self.mean[name].to(value.device)
            mean.lerp_(value.detach(), 1 - decay)


class Equal(Averaging):
    """The mean of the weights at the ends of the epochs from ``first`` (of 1, 2, …) on, each counting alike (Izmailov
    et al. 2018, Averaging weights leads to wider optima and better generalization, algorithm 1).

    BatchNorm's running statistics are those of the mean's own activations, over the training images as images are
    measured, unchanged; see :func:`with_statistics`.
    """

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first
        self.epochs = 0  # in the mean

    @property
    def state_key(self) -> str:
        return "EqualAveraging"

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx + 1 < trainer.num_training_batches or trainer.current_epoch + 1 < self.first:
            return
        self.epochs += 1
        for name, value in averaged(pl_module):
            mean = self.mean.setdefault(name, value.detach().clone())
            self.mean[name] = mean.to(value.device).lerp_(value.detach(), 1 / self.epochs)
        with_statistics(pl_module, self.mean)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.epochs:
            log.warning("callbacks.swa: nothing is averaged, for the run ended before epoch %d did", self.first)


def make_averaging(config: Config) -> Averaging | None:
    """What averages the weights of a run of ``config``, if anything does."""
    ema, swa = config.callbacks.ema, config.callbacks.swa
    if ema is not None:
        return Exponential(ema)
    if swa is not None:
        return Equal(math.ceil(swa * config.trainer.max_epochs) if isinstance(swa, float) else swa)
    return None


@torch.no_grad()
def with_statistics(module: pl.LightningModule, mean: dict[str, Tensor]) -> None:
    """Give ``mean`` the running statistics of BatchNorm that its weights have over the training images: the means of
    those of micro-batches, without a last one that is not full. ``module`` is afterwards as it was."""
    assert isinstance(module, SiameseModule)
    norms: dict[str, Any] = {  # their buffers are there
        f"net.{name}": layer
        for name, layer in module.net.named_modules()
        if isinstance(layer, _BatchNorm) and layer.track_running_stats
    }
    if not norms:
        return
    trained, training = taken(module), module.net.training
    before = {name: (layer.momentum, layer.num_batches_tracked.clone()) for name, layer in norms.items()}
    put(module, mean)
    module.net.eval()
    for layer in norms.values():
        layer.reset_running_stats()
        layer.momentum = None  # each micro-batch counts alike
        layer.train()
    data, precision = module.data, module.trainer.precision_plugin
    size, index = data.loader.batch_size * data.layout.images, data.parts["train"]
    index = index[generator(data.seed, "averaged statistics").permutation(len(index))]
    with precision.forward_context():
        for batch in data.images_of(index[: max(len(index) // size * size, min(size, len(index)))], size):
            moved = batch._replace(images=batch.images.to(module.device), labels=batch.labels.to(module.device))
            module.net(data.on_after_batch_transfer(moved, 0).images)
    for name, layer in norms.items():
        mean[f"{name}.running_mean"] = layer.running_mean.clone()
        mean[f"{name}.running_var"] = layer.running_var.clone()
        layer.momentum = before[name][0]
        layer.num_batches_tracked.copy_(before[name][1])
    put(module, trained)
    module.net.train(training)


def averaged(module: pl.LightningModule) -> Iterator[tuple[str, Tensor]]:
    """What is averaged of ``module``, by its names there: all numbers of the network, and what a loss has trained."""
    assert isinstance(module, SiameseModule)
    for name, value in module.net.state_dict(keep_vars=True).items():
        if value.is_floating_point():
            yield f"net.{name}", value
    for name, parameter in module.objective.named_parameters():
        yield f"objective.{name}", parameter


def taken(module: pl.LightningModule) -> dict[str, Tensor]:
    """A copy of what is averaged of ``module``."""
    return {name: value.detach().clone() for name, value in averaged(module)}


@torch.no_grad()
def put(module: pl.LightningModule, values: dict[str, Tensor]) -> None:
    """Give ``module`` the ``values`` of what is averaged."""
    for name, value in averaged(module):
        value.copy_(values[name])
