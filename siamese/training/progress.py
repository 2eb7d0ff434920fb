"""What a terminal, or whatever takes its place, shows while a run trains."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from torch import Tensor

from siamese.runs.clock import span

log = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two lines


class ProgressBar(RichProgressBar):
    """Lightning's rich bar that counts epochs as the log does, from epoch 0, which is before training, and carries
    the loss of the last window and what is monitored."""

    def __init__(self) -> None:
        super().__init__(leave=False)
        self._loss: Tensor | None = None

    @property
    def sanity_check_description(self) -> str:
        return "epoch 0, before training"

    @property
    def validation_description(self) -> str:
        return "validation"

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._loss = outputs["terms"].get("loss", self._loss)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        monitored = f"val/{pl_module.monitor}"
        shown = {"loss": self._loss, monitored: trainer.callback_metrics.get(monitored)}
        return {name: f"{float(value):.4f}" for name, value in shown.items() if value is not None}


class ProgressLines(pl.Callback):
    """Where there is no terminal: a line every half a minute of an epoch."""

    def __init__(self) -> None:
        self._began = self._said = 0.0
        self._first = self._images = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin within an epoch, as a run that is gone on with may."""
        self._began = self._said = time.monotonic()
        self._first, self._images = trainer.fit_loop.batch_idx + 1, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = self._said = time.monotonic()
        self._first = self._images = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch.labels)
        now = time.monotonic()
        if not outputs["terms"] or now - self._said < EVERY:
            return
        self._said = now
        batches, seconds = int(trainer.num_training_batches), now - self._began
        epochs = int(trainer.max_epochs or 0) - trainer.current_epoch
        left = (epochs * batches - batch_idx - 1) * seconds / (batch_idx + 1 - self._first)
        log.info(
            "epoch %d/%s  micro-batch %d/%d  loss %.4f  %.0f images/s  %s left",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            batch_idx + 1,
            batches,
            outputs["terms"]["loss"].item(),
            self._images / seconds,
            span(left),
        )
