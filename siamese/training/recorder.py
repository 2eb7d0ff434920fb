"""What is recorded while a run trains: means over the epoch, metrics.csv, heartbeat, collapse."""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from siamese.config.schema import Callbacks
from siamese.errors import RunError
from siamese.runs.directory import RunDirectory
from siamese.training.gradient_study.meter import GradientMeter
from siamese.training.module import SiameseModule
from siamese.training.window import place_in

log = logging.getLogger(__name__)


CHECK_EVERY = 50  # micro-batches between looks at the loss on a device where looking waits for it


class Recorder(pl.Callback):
    """Means of the loss and its terms over the images of an epoch, and one row of metrics.csv each; to
    Lightning's logger, if there is one, the same of every optimizer step.

    ``train/embeddings`` is how many embeddings the loss saw at once.

    Attributes:
        collapsed: the epoch at which the embedding was first found collapsed, while it still is.
    """

    def __init__(self, run: RunDirectory, config: Callbacks, meter: GradientMeter | None = None) -> None:
        self.run, self.config, self.meter = run, config, meter
        self.collapsed: int | None = None
        self._warned = False
        self._names: list[str] = []
        self._step: list[Tensor] = []  # of the window so far
        self._sums: Tensor | None = None
        self._seen = 0  # images of this epoch
        self._images = 0  # of all epochs
        self._bad: Tensor | None = None
        self._where = (0, 0)
        self._began = time.monotonic()

    @property
    def state_key(self) -> str:
        return "Recorder"

    def state_dict(self) -> dict[str, Any]:
        sums = None if self._sums is None else self._sums.cpu()
        return {
            "names": list(self._names),
            "sums": sums,
            "seen": self._seen,
            "images": self._images,
            "collapsed": self.collapsed,
            "warned": self._warned,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._names, self._sums = state_dict["names"], state_dict["sums"]
        self._seen, self._images = state_dict["seen"], state_dict["images"]
        self.collapsed, self._warned = state_dict["collapsed"], state_dict["warned"]

    # -- training ------------------------------------------------------------------------------

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sums, self._seen = None, 0
        self._began = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs["terms"]:  # exact accumulation has them at the end of a window only
            self._add(trainer, outputs, batch_idx)
        if self._step and place_in(trainer, batch_idx).last:
            means = torch.stack(self._step).mean(0)
            self._step = []
            if trainer.loggers:
                pl_module.log_dict({f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)})
        self.run.beat(self.config.heartbeat_seconds, epoch=trainer.current_epoch, step=trainer.global_step)

    def _add(self, trainer: pl.Trainer, outputs: dict[str, Any], batch_idx: int) -> None:
        terms, count = outputs["terms"], outputs["images"]
        self._names = [*terms, "embeddings"]
        losses = torch.stack(list(terms.values())).detach()
        wide = losses if losses.device.type == "mps" else losses.double()
        values = torch.cat([wide, wide.new_tensor([outputs["embeddings"]])])
        self._step.append(values)
        self._sums = values * count + (0 if self._sums is None else self._sums.to(values.device))
        self._seen += count
        self._images += count
        place = torch.where(losses.isfinite().all(), math.inf, batch_idx + 1.0)
        self._bad = place if self._bad is None else torch.minimum(self._bad, place)
        self._where = (trainer.current_epoch + 1, trainer.accumulate_grad_batches)
        if losses.device.type == "cpu" or (batch_idx + 1) % CHECK_EVERY == 0:
            self.require_finite()

    def require_finite(self) -> None:
        """Raise if a loss of this epoch was NaN or infinite (this waits for the device).

        Raises:
            RunError: naming the epoch, the step and the micro-batch.
        """
        bad = math.inf if self._bad is None else self._bad.item()
        if math.isfinite(bad):
            epoch, window = self._where
            raise RunError(
                f"train/loss became NaN or infinite at epoch {epoch}, step {math.ceil(bad / window)} of the epoch "
                f"(micro-batch {bad:.0f}); {self._kept()}; try a smaller optimizer.lr or trainer.gradient_clip_val=1"
            )

    def _kept(self) -> str:
        last = self.run.checkpoints / "last.ckpt"
        return "checkpoints/last.ckpt holds the last good state" if last.exists() else "there is no checkpoint yet"

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.loggers = []  # Lightning would end them: Logs does, when all is logged, and at no cost to the run

    # -- validation ----------------------------------------------------------------------------

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self.require_finite()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SiameseModule)
        if trainer.state.fn != "fit":
            return
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        measured = {f"val/{name}": value for name, value in pl_module.measured.items()}
        for name, value in measured.items():
            if not math.isfinite(value):
                raise RunError(f"{name} is {value} at epoch {epoch}; {self._kept()}")
        names = ("loss", *pl_module.objective.terms, "embeddings")
        train: dict[str, float | None] = {f"train/{name}": None for name in names}
        if epoch and self._sums is not None:
            means = (self._sums / self._seen).tolist()
            train = {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}
        if self.meter is not None:
            train |= self.meter.means()
        seconds = time.monotonic() - self._began
        row: dict[str, Any] = {"epoch": epoch, "step": trainer.global_step, "images": self._images}
        row |= {"lr": trainer.optimizers[0].param_groups[0]["lr"]} | train | measured | {"seconds": round(seconds, 3)}
        self.run.add_epoch(row)
        for logger in trainer.loggers:
            logger.log_metrics({k: v for k, v in row.items() if v is not None}, trainer.global_step)
        shown = {k: row[k] for k in ("train/loss", "val/loss", f"val/{pl_module.monitor}") if row.get(k) is not None}
        log.info(
            "epoch %*d/%d  %s  %.1f s",
            len(str(trainer.max_epochs)),
            epoch,
            trainer.max_epochs,
            "  ".join(f"{k} {v:.4f}" for k, v in shown.items()),
            seconds,
        )
        self._notice_collapse(epoch, measured["val/cos_mean"])
        self.run.beat(0.0, epoch=epoch, step=trainer.global_step)

    def _notice_collapse(self, epoch: int, cosine: float) -> None:
        if not epoch:  # random weights send all images to nearly one place; that is no collapse
            return
        if cosine <= self.config.collapse_cosine:
            self.collapsed = None
            return
        self.collapsed = self.collapsed or epoch
        if not self._warned:
            self._warned = True
            log.warning(
                "the embedding has collapsed at epoch %d: the mean cosine of validation images is %.3f; "
                "try a smaller optimizer.lr, pretrained weights, a model with BatchNorm, or loss.koleo_weight",
                epoch,
                cosine,
            )
