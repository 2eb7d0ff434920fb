"""How far the step that accumulation takes is from the exact one, measured while training."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytorch_lightning as pl

from siamese.data import Batch
from siamese.training.accumulation.exact import PendingBatch
from siamese.training.accumulation.memory import Memory
from siamese.training.gradient_study import gradients
from siamese.training.module import SiameseModule
from siamese.training.random_state import random_state
from siamese.training.window import place_in


class GradientMeter(pl.Callback):
    """At every ``every``-th optimizer step, from the first on: the gradient of naive accumulation (under
    ``accumulation=memory``, its own) beside the exact one, of the weights and images of that step."""

    def __init__(self, every: int) -> None:
        self.every = every
        self._window: list[PendingBatch] = []
        self._memory: Memory | None = None
        self._sums, self._count = [0.0, 0.0], 0

    @property
    def state_key(self) -> str:
        return "GradientMeter"

    def state_dict(self) -> dict[str, Any]:
        return {"sums": list(self._sums), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._sums, self._count = state_dict["sums"], state_dict["count"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sums, self._count = [0.0, 0.0], 0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: SiameseModule, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        if trainer.global_step % self.every:
            return
        place = place_in(trainer, batch_idx)
        if place.first:
            mode = pl_module.accumulation
            self._window, self._memory = [], copy.copy(mode) if isinstance(mode, Memory) else None
        self._window.append(PendingBatch(batch, random_state()))
        if place.last:
            taken = gradients.accumulated(pl_module.learner, self._window, memory=self._memory).vectors["loss"]
            found = gradients.compare(taken, gradients.exact(pl_module.learner, self._window).vectors["loss"])
            self._window, self._memory = [], None
            if found is not None and all(math.isfinite(value) for value in found):
                self._sums = [total + value for total, value in zip(self._sums, found, strict=True)]
                self._count += 1

    def means(self) -> dict[str, float | None]:
        """Over the epoch so far, for its row of metrics.csv; None where nothing was measured."""
        values = [total / self._count if self._count else None for total in self._sums]
        return dict(zip(("train/gradient_cosine", "train/gradient_norm_ratio"), values, strict=True))
