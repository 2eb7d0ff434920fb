"""A learning-rate range test: training while the rate rises, and the rate at which the loss falls fastest."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl

from siamese.config.schema import Config
from siamese.data import load_to_train
from siamese.training.build import build, make_trainer, split_data
from siamese.training.preflight import preflight_with_images
from siamese.training.window import place_in


class Tried(NamedTuple):
    """A step of the test: its learning ``rate``, and the ``loss`` of its window before it was taken."""

    rate: float
    loss: float


class Rising(pl.Callback):
    """Gives the k-th of ``steps`` optimizer steps the rate low · (high / low)^(k / (steps − 1)), and notes its loss; a
    group that has a rate of its own keeps its share of it. Ends training with the last of them, or with the first loss
    that is NaN or infinite, which is not noted."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.rates = np.geomspace(low, high, steps).tolist()
        self.tried: list[Tried] = []
        self._shares: list[float] = []
        self._sum = self._images = 0.0  # of the window so far

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rates = [float(group["lr"]) for group in trainer.optimizers[0].param_groups]
        self._shares = [rate / rates[0] for rate in rates]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        for group, share in zip(trainer.optimizers[0].param_groups, self._shares, strict=True):
            group["lr"] = self.rates[len(self.tried)] * share

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs["terms"]:  # exact accumulation has them at the end of a window only
            self._sum += float(outputs["terms"]["loss"]) * outputs["images"]
            self._images += outputs["images"]
        if not place_in(trainer, batch_idx).last:
            return
        loss, self._sum, self._images = self._sum / self._images, 0.0, 0.0
        if math.isfinite(loss):
            self.tried.append(Tried(self.rates[len(self.tried)], loss))
        trainer.should_stop = not math.isfinite(loss) or len(self.tried) == len(self.rates)


def rising(config: Config, low: float, high: float, steps: int, where: Path) -> list[Tried]:
    """The steps of a range test of ``config`` from rate ``low`` to ``high``, without its schedule and validation; fewer
    than ``steps`` where the loss became NaN or infinite. A function of the seed. Nothing is written, ``where`` or
    elsewhere.

    Raises:
        ConfigError: for what cannot be trained as it stands.
    """
    trainer_keys = dataclasses.replace(config.trainer, max_epochs=steps, max_steps=None, max_time=None)
    config = dataclasses.replace(config, trainer=trainer_keys, scheduler={"_target_": None, "interval": "step"})
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = split_data(config, load_to_train(config.data, config.seed))
    module = build(config, data)
    preflight_with_images(config, module, data)
    trainer, rates = make_trainer(config, where, []), Rising(low, high, steps)
    trainer.callbacks.append(rates)  # type: ignore[attr-defined]
    trainer.limit_val_batches = trainer.num_sanity_val_steps = 0
    trainer.fit(module, datamodule=data)
    return rates.tried


def smoothed(losses: np.ndarray, steps: int) -> np.ndarray:
    """``losses`` [n] as means over their neighbours, weighted by a triangle that reaches a twentieth of ``steps`` to
    both sides, so that nothing is shifted; at the ends over those that there are."""
    kernel = np.bartlett(2 * max(1, steps // 20) + 3)[1:-1]  # without its zeros
    reach = len(kernel) // 2
    sums, weights = (np.convolve(values, kernel) for values in (losses, np.ones_like(losses)))
    return np.asarray((sums / weights)[reach : reach + len(losses)])


def steepest(rates: np.ndarray, losses: np.ndarray) -> int | None:
    """The place among ``rates`` [n] at which ``losses`` [n], smoothed, fall fastest over the logarithm of the rate,
    before they are at their lowest; None where they do not fall."""
    end = int(np.argmin(losses)) + 1
    if end < 3:
        return None
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    found = int(np.argmin(slopes))
    return found if slopes[found] < 0 else None
