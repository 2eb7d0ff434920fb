"""What starts frozen, trained from an epoch on."""

from __future__ import annotations

import logging

import pytorch_lightning as pl

from siamese.models import EmbeddingNet
from siamese.training.module import SiameseModule

log = logging.getLogger(__name__)


class Thawing(pl.Callback):
    """Lets what ``model.freeze`` keeps be trained once ``epochs`` are over, so that a new projection has learnt to use
    good features before it changes them (Kumar et al. 2022, Fine-tuning can distort pretrained features). It depends on
    the epoch alone, so that a run that goes on needs nothing else to do the same."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._thaw(trainer, pl_module)  # gone on from within an epoch, whose start is not announced again

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._thaw(trainer, pl_module)

    def _thaw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, SiameseModule)
        assert isinstance(module.net, EmbeddingNet)
        if trainer.current_epoch >= self.epochs and (count := module.net.thaw()):
            log.info(
                "epoch %d: what model.freeze kept is trained from here on (%d tensors)",
                trainer.current_epoch + 1,
                count,
            )
