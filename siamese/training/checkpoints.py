"""Checkpoints that survive being killed: written whole or not at all, complete enough to go on
bit for bit, and holding nothing but primitives and tensors."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from siamese.errors import RunError
from siamese.evaluation.names import direction
from siamese.runs.directory import RunDirectory
from siamese.runs.files import atomic
from siamese.training.module import SiameseModule
from siamese.training.random_state import random_state, restore_random_state
from siamese.training.signals import StopRequest

log = logging.getLogger(__name__)

# The best value that was monitored, the epoch of the best weights, and the epoch since which there was no better value.
NONE_YET = {"value": None, "epoch": None, "since": None}


def better(best: dict[str, Any], value: float, epoch: int, direction: str | None) -> dict[str, Any]:
    """What is the best after ``epoch``, later than all before, where ``value`` was measured; of equal ones the last,
    for an easy validation is perfect early, and training goes on to pay."""
    before = best["value"]
    gained = before is None or (value > before if direction == "max" else value < before)
    if not gained and value != before:
        return best
    return {"value": value, "epoch": epoch, "since": epoch if gained else best["since"]}


class Least(NamedTuple):
    """What a run trains for however long nothing improves."""

    epochs: int = 0
    steps: int = 0


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own goes through TMPDIR, and a kill while it is copied from there corrupts."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with atomic(Path(path)) as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's zip writer words a full disk so
            raise RunError(f"{path}: could not be written ({str(error).splitlines()[0]})") from None


class Checkpoints(pl.callbacks.Checkpoint):
    """best.ckpt by what the module monitors (of epochs that are as good the last), last.ckpt every epoch and every
    ``every_steps`` optimizer steps, and epoch-*.ckpt every ``every`` epochs. In each are the state of every random
    generator, the run's id and the rows of metrics.csv so far. Training stops once what is monitored has not improved
    for ``patience`` epochs, and it has trained for the ``least`` that it has to."""

    def __init__(
        self,
        run: RunDirectory,
        stop: StopRequest,
        require_finite: Callable[[], None],
        every: int | None = None,
        every_steps: int | None = None,
        patience: int | None = None,
        least: Least | None = None,
    ) -> None:
        super().__init__()
        self.run, self.stop, self.require_finite = run, stop, require_finite
        self.every, self.every_steps, self.patience = every, every_steps, patience
        self.least = least or Least()
        self.best: dict[str, Any] = dict(NONE_YET)
        self.validated = 0  # epochs
        self.also: list[str] = []  # what else last.ckpt is called
        self._random: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        return "Checkpoints"

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": dict(self.best),
            "validated": self.validated,
            "also": list(self.also),
            "random": random_state(),
        }

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["run"] = self.run.carried()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best"]
        self.best = {"since": best["epoch"], **best}  # earlier versions let a tie change nothing
        self.validated = state_dict.get("validated", 0)
        self.also, self._random = state_dict["also"], state_dict["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.install()
        self.stop.patient = True
        if trainer.ckpt_path is not None:  # gone on from; a kill may have come before its other names
            self._name(Path(trainer.ckpt_path), "last.ckpt", *self.also)
        if not (self.run.checkpoints / "best.ckpt").exists():  # it is gone: the best from here on counts
            self.best = dict(NONE_YET)
        self._stop_without_gain(trainer)  # a kill may have come between the last epoch's checkpoint and the end
        if self._random is not None:
            restore_random_state(self._random)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.patient = False
        self.stop.obey()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        at_window_end = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not at_window_end or batch_idx + 1 == trainer.num_training_batches or trainer.should_stop:
            return  # the end of an epoch, and of a run, is saved once it is validated
        due = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        self._agree(trainer)
        if due or self.stop.signal is not None:
            self._save(trainer)
        self.stop.obey()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SiameseModule)
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        self.validated = epoch = trainer.current_epoch + 1
        self.best = better(self.best, pl_module.measured[pl_module.monitor], epoch, direction(pl_module.monitor))
        is_best = self.best["epoch"] == epoch
        is_kept = self.every is not None and epoch % self.every == 0
        self._agree(trainer)
        self._save(trainer, *["best.ckpt"] * is_best, *[f"epoch-{epoch:04d}.ckpt"] * is_kept)
        self.stop.obey()
        self._stop_without_gain(trainer)

    def _stop_without_gain(self, trainer: pl.Trainer) -> None:
        """Let training end here if what is monitored has not improved for as long as patience lasts: on all devices,
        for one alone would be waited for."""
        since = self.best["since"]
        if self.patience is None or since is None or self.validated == trainer.max_epochs or trainer.should_stop:
            return
        if self.validated < self.least.epochs or trainer.global_step < self.least.steps:
            return
        if not trainer.strategy.reduce_boolean_decision(self.validated - since >= self.patience, all=False):
            return
        trainer.should_stop = True
        module = trainer.lightning_module
        assert isinstance(module, SiameseModule)
        log.info("stopped at epoch %d: val/%s has not improved since epoch %s", self.validated, module.monitor, since)

    def _agree(self, trainer: pl.Trainer) -> None:
        """Let a signal that reached one of several devices stop them all here; alone, any would wait for the others."""
        if trainer.strategy.reduce_boolean_decision(self.stop.signal is not None, all=False):
            self.stop.signal = self.stop.signal or signal.SIGTERM

    def _save(self, trainer: pl.Trainer, *also: str) -> None:
        """Write last.ckpt, and name it ``also``."""
        self.require_finite()
        weights = [w for w in trainer.lightning_module.state_dict().values() if w.is_floating_point()]
        if not torch.stack([w.isfinite().all() for w in weights]).all():
            raise RunError(
                f"the weights became NaN or infinite at epoch {trainer.current_epoch + 1}, step {trainer.global_step} "
                "of the run, and were not saved; try a smaller optimizer.lr or trainer.gradient_clip_val=1"
            )
        self.also = list(also)
        last = self.run.checkpoints / "last.ckpt"
        trainer.save_checkpoint(last)
        self._name(last, *also)

    def _name(self, path: Path, *names: str) -> None:
        for name in names:
            self.run.name_checkpoint(path, name)
