"""Checkpoints that survive being killed: written whole or not at all, complete enough to go on
bit for bit, and holding nothing but primitives and tensors."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from siamese.artifacts import RunDirectory, atomic, copy
from siamese.command_line import Interrupted
from siamese.errors import RunError
from siamese.module import SiameseModule
from siamese.randomness import random_state, restore_random_state

log = logging.getLogger(__name__)

MONITOR = "auc"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's own goes through TMPDIR, and a kill while it is copied from there corrupts."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        try:
            with atomic(Path(path)) as file:
                torch.save(checkpoint, file)
        except RuntimeError as error:  # torch's zip writer words a full disk so
            raise RunError(f"{path}: could not be written ({str(error).splitlines()[0]})") from None


def loads(path: Path) -> dict[str, Any] | None:
    """The checkpoint in ``path``, or None when there is none that can be read as plain tensors."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file makes the reader raise anything
        log.debug("%s: %s", path, error)
        return None
    return checkpoint if isinstance(checkpoint, dict) and "state_dict" in checkpoint else None


def newest(folder: Path) -> Path | None:
    """The checkpoint to go on from: last.ckpt, or the newest other that can be read, and a warning."""
    last = folder / "last.ckpt"
    others = [p for p in folder.glob("*.ckpt") if p != last]
    others.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for path in [last, *others]:
        if path.exists() and loads(path) is not None:
            if path != last:
                log.warning("%s cannot be read; going on from %s instead", last, path.name)
            return path
    if last.exists() or others:
        raise RunError(f"{folder}: none of its checkpoints can be read")
    return None


class StopRequest:
    """Signals as a wish to stop: during training the step in hand is finished and saved first; a
    second signal, or one at any other time, stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Handle the signals (again: Lightning puts its own handler in the way when a fit starts)."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.patient or self.signal is not None:
            raise Interrupted(number)
        self.signal = number
        log.info("%s: stopping after this step (once more: at once)", signal.Signals(number).name)

    def obey(self) -> None:
        """Raise if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)


class Checkpoints(pl.callbacks.Checkpoint):
    """best.ckpt by val/auc, last.ckpt every epoch and every ``every_steps`` optimizer steps, and
    epoch-*.ckpt every ``every`` epochs; the state of every random generator is in each."""

    def __init__(
        self,
        run: RunDirectory,
        stop: StopRequest,
        require_finite: Callable[[], None],
        every: int | None = None,
        every_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.run, self.stop, self.require_finite = run, stop, require_finite
        self.every, self.every_steps = every, every_steps
        self.best: dict[str, Any] = {"value": None, "epoch": None}
        self.also: list[str] = []  # what else last.ckpt is called
        self._random: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        return "Checkpoints"

    def state_dict(self) -> dict[str, Any]:
        return {"best": dict(self.best), "also": list(self.also), "random": random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.also, self._random = state_dict["best"], state_dict["also"], state_dict["random"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.install()
        self.stop.patient = True
        if trainer.ckpt_path is not None:  # gone on from; a kill may have come before its other names
            self._name(Path(trainer.ckpt_path), "last.ckpt", *self.also)
        if self._random is not None:
            restore_random_state(self._random)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.patient = False
        self.stop.obey()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        at_window_end = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not at_window_end or batch_idx + 1 == trainer.num_training_batches:
            return  # the end of an epoch is saved once it is validated
        due = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        self._agree(trainer)
        if due or self.stop.signal is not None:
            self._save(trainer)
        self.stop.obey()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SiameseModule)
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        epoch, value = trainer.current_epoch + 1, pl_module.measured[MONITOR]
        is_best = self.best["value"] is None or value > self.best["value"]
        if is_best:
            self.best = {"value": value, "epoch": epoch}
        is_kept = self.every is not None and epoch % self.every == 0
        self._agree(trainer)
        self._save(trainer, *["best.ckpt"] * is_best, *[f"epoch-{epoch:04d}.ckpt"] * is_kept)
        self.stop.obey()

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
            copy(path, self.run.checkpoints / name)
