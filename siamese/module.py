"""The LightningModule: embed a batch, compute the loss, hand on what was measured; nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from siamese.accumulation import window_scale
from siamese.data import Batch, TripletData
from siamese.evaluation.verification import mean_cosine, verification
from siamese.losses import Objective, koleo


class SiameseModule(pl.LightningModule):
    """Trains ``net`` on the micro-batches of ``data`` under ``objective``.

    Attributes:
        embeddings: of the part last evaluated, float32 [n, D], in the order of ``data.parts[part]``.
        measured: its metrics without prefix: the loss, its terms, and :func:`verification`'s.
    """

    def __init__(
        self,
        net: nn.Module,
        objective: Objective,
        data: TripletData,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer, int], dict[str, Any] | None],
        *,
        rescale_last_window: bool = True,
        koleo_embeddings: int = 192,
    ) -> None:
        super().__init__()
        self.net, self.objective, self.data = net, objective, data
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.rescale_last_window, self.koleo_embeddings = rescale_last_window, koleo_embeddings
        self.embeddings = torch.empty(0)
        self.measured: dict[str, float] = {}
        self._chunks: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        embeddings = self.net(batch.images)
        loss, terms = self.objective(embeddings, batch.labels, batch.tuples)
        scale = 1.0
        if self.rescale_last_window:
            batches = int(self.trainer.num_training_batches)
            scale = window_scale(batch_idx, batches, self.trainer.accumulate_grad_batches)
        return {"loss": loss * scale, "terms": {"loss": loss, **terms}, "tuples": len(batch.tuples[0])}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._chunks.append(self.net(batch.images))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._chunks.append(self.net(batch.images))

    def on_validation_epoch_end(self) -> None:
        self._measure("validation")
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            self.log_dict({f"val/{name}": value for name, value in self.measured.items()}, logger=False)

    def on_test_epoch_end(self) -> None:
        self._measure("test")

    def _measure(self, part: str) -> None:
        """Loss and verification over the whole part; KoLeo over as many of its images, evenly spaced,
        for every run (all different: an image twice would be its own nearest neighbour)."""
        self.embeddings = torch.cat(self._chunks).cpu()
        self._chunks = []
        index = self.data.parts[part]
        triplets = torch.from_numpy(np.searchsorted(index, self.data.triplets[part]))
        labels = self.data.source.labels[torch.from_numpy(index)]
        objective = self.objective
        terms = {objective.name: objective.base(self.embeddings, labels, triplets.unbind(1))}
        if objective.koleo_weight:
            rows = torch.linspace(0, len(index) - 1, min(len(index), self.koleo_embeddings)).long()
            terms["koleo"] = koleo(self.embeddings[rows], objective.koleo.neighbours)
        terms["loss"] = objective.total(terms)
        self.measured = {name: value.item() for name, value in sorted(terms.items())}
        self.measured |= verification(self.embeddings, triplets)
        self.measured["cos_mean"] = mean_cosine(self.embeddings)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters())
        schedule = self.make_schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}
