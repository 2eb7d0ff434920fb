"""Averaged weights: measured and kept in the place of those that are trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from siamese.training.module import SiameseModule

RAW = "raw"  # where a checkpoint has the weights that training goes on with


class Averaging(pl.callbacks.Callback):
    """The mean of the weights over the steps so far, those of a step ago counting ``decay`` as much (Polyak and
    Juditsky 1992; Tarvainen and Valpola 2017, Mean teachers, section 2). Running statistics of norms are averaged too.

    At first less is remembered: ``decay`` after t steps is at most (1 + t) / (10 + t), so that the random weights of
    the beginning are soon forgotten. Validation sees the mean, and ``state_dict`` of a checkpoint is the mean, so that
    whoever loads it need not know; the weights that training goes on with are beside it.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._mean: dict[str, Tensor] = {}
        self._aside: dict[str, Tensor] = {}  # what is trained, while the mean is in its place

    @property
    def state_key(self) -> str:
        return "Averaging"

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._mean:
            self._mean = {name: value.detach().clone() for name, value in averaged(pl_module)}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:  # within a window
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps = trainer.global_step
        for name, value in averaged(pl_module):
            mean = self._mean[name] = self._mean[name].to(value.device)
            mean.lerp_(value.detach(), 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._aside = {name: value.detach().clone() for name, value in averaged(pl_module)}
            put(pl_module, self._mean)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            put(pl_module, self._aside)
            self._aside = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["state_dict"]
        trained = self._aside or state  # during validation the mean is in their place
        checkpoint[RAW] = {name: trained[name] for name in self._mean}
        checkpoint["state_dict"] = {**state, **self._mean}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["state_dict"]
        self._mean = {name: state[name].to(value.device, copy=True) for name, value in averaged(pl_module)}
        put(pl_module, checkpoint[RAW])


def averaged(module: pl.LightningModule) -> Iterator[tuple[str, Tensor]]:
    """What is averaged of ``module``, by its names there: all numbers of the network, and what a loss has trained."""
    assert isinstance(module, SiameseModule)
    for name, value in module.net.state_dict(keep_vars=True).items():
        if value.is_floating_point():
            yield f"net.{name}", value
    for name, parameter in module.objective.named_parameters():
        yield f"objective.{name}", parameter


@torch.no_grad()
def put(module: pl.LightningModule, values: dict[str, Tensor]) -> None:
    """Give ``module`` the ``values`` of what is averaged."""
    for name, value in averaged(module):
        value.copy_(values[name])
