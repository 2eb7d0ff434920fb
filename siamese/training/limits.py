"""The ends of a run within an epoch: so many steps, or so long."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytorch_lightning as pl

from siamese.config.trainer import seconds
from siamese.training.window import place_in

log = logging.getLogger(__name__)


class Limits(pl.Callback):
    """Ends training at the first step that is the last of ``max_steps`` optimizer steps, or is ``max_time``
    (DD:HH:MM:SS, validation included) after the beginning. Lightning's own limits end a window in its middle, or leave
    the last steps unmeasured; after this end the epoch is validated and saved as any other.

    Attributes:
        ended: by which limit, as it is typed; None while there is none.
    """

    def __init__(self, max_steps: int | None, max_time: str | None) -> None:
        self.max_steps, self.max_time = max_steps, max_time
        self.ended: str | None = None
        self._seconds = 0.0  # up to the last step
        self._before = 0.0  # of these, those before this process
        self._began = time.monotonic()

    @property
    def state_key(self) -> str:
        return "Limits"

    def state_dict(self) -> dict[str, Any]:
        # Seconds differ from run to run, and where there is no limit of time they are nobody's business.
        return {"ended": self.ended, "seconds": self._seconds if self.max_time is not None else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.ended, self._before = state_dict["ended"], state_dict["seconds"] or 0.0
        self._seconds = self._before

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic()
        trainer.should_stop = trainer.should_stop or self.ended is not None  # what ended was killed before its results

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not place_in(trainer, batch_idx).last:
            return
        self._seconds = self._before + time.monotonic() - self._began
        late = self.max_time is not None and self._seconds >= seconds(self.max_time)
        if self.max_steps is not None and trainer.global_step >= self.max_steps:
            self.ended = f"trainer.max_steps={self.max_steps}"
        elif self.max_time is not None and trainer.strategy.reduce_boolean_decision(late, all=False):
            self.ended = f"trainer.max_time={self.max_time}"
        else:
            return
        trainer.should_stop = True
        trainer.check_val_every_n_epoch = 1  # the last epoch is measured, whichever it is
        log.info("stopped at epoch %d, step %d: %s", trainer.current_epoch + 1, trainer.global_step, self.ended)
