"""The LightningModule: embed a batch, compute the loss, hand on what was measured; nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from siamese.config.schema import Evaluation
from siamese.data import Batch, SiameseData
from siamese.errors import ConfigError, RunError
from siamese.evaluation.given_pairs import pair_verification
from siamese.evaluation.names import METRICS, Undefined
from siamese.evaluation.one import value_of
from siamese.evaluation.verification import mean_cosine, verification
from siamese.evaluation.views import view_retrieval
from siamese.evaluator.measured import how, points_of, roles_of
from siamese.losses import Objective, koleo
from siamese.models.mirrored import embed
from siamese.training.accumulation import Accumulation, Naive
from siamese.training.groups import Groups, trained
from siamese.training.learner import Learner, gather
from siamese.training.schedule import Schedule


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
        data: SiameseData,
        optimizer: Callable[[Groups], torch.optim.Optimizer],
        schedule: Callable[[torch.optim.Optimizer, int], dict[str, Any] | None],
        accumulation: Accumulation | None = None,
        *,
        settings: Evaluation | None = None,
        loss_lr: float | None = None,
        backbone_lr: float | None = None,
        layer_decay: float | None = None,
        monitor: str | None = None,
    ) -> None:
        super().__init__()
        self.net, self.objective, self.data = net, objective, data
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.accumulation, self.settings = accumulation or Naive(), settings or Evaluation()
        self.loss_lr, self.backbone_lr, self.layer_decay = loss_lr, backbone_lr, layer_decay
        # What the best checkpoint is best by, of what is measured.
        self.monitor = monitor or ("view_recall_at_1" if data.has_views("validation") else "auc")
        self.embeddings = torch.empty(0)
        self.measured: dict[str, float] = {}
        self._chunks: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings [N, D] of uint8 ``images`` [N, 3, H, W] as they are measured."""
        return embed(self.net, images, flip=self.settings.flip)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        return self.accumulation.step(self.learner, batch, batch_idx)

    @property
    def learner(self) -> Learner:
        """What the way to accumulate works with."""
        return Learner(self.net, self.objective, self.data.layout, self.trainer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["accumulation"] = self.accumulation.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.accumulation.load_state_dict(checkpoint.get("accumulation", {}))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._chunks.append(self(batch.images))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._chunks.append(self(batch.images))

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self(batch.images)

    def on_validation_epoch_end(self) -> None:
        self._measure("validation")
        if self.trainer.state.fn != "fit":
            return
        self._measure_monitored()
        schedule = self.lr_schedulers()
        if isinstance(schedule, Schedule):
            (schedule.require if self.trainer.sanity_checking else schedule.measured)(self.measured)
        if not self.trainer.sanity_checking:
            self.log_dict({f"val/{name}": value for name, value in self.measured.items()}, logger=False)

    def on_test_epoch_end(self) -> None:
        self._measure("test")

    def _measure(self, part: str) -> None:
        """Loss and verification over the whole part; KoLeo over as many of its images, evenly spaced,
        for every run (all different: an image twice would be its own nearest neighbour)."""
        every, self._chunks = gather(self.trainer, torch.cat(self._chunks)), []
        views = None
        if self.data.has_views(part):
            views = torch.cat([rows.chunk(2)[1] for rows in every]).cpu()
            every = [rows.chunk(2)[0] for rows in every]
        self.embeddings = torch.cat(every).cpu()
        index, triplets = self.data.parts[part], torch.from_numpy(self._triplets(part))
        labels = self.data.source.labels[torch.from_numpy(index)]
        objective = self.objective
        rows = self.embeddings if views is None else torch.cat([self.embeddings, views])
        terms, known = {}, objective.knows(labels.to(self.device))  # else it has no weights for these classes
        if known:
            terms[objective.name] = self._loss(part, rows, labels.repeat(len(rows) // len(labels)))
        if objective.koleo_weight:
            places = torch.linspace(0, len(index) - 1, min(len(index), self.settings.koleo_embeddings)).long()
            terms["koleo"] = koleo(self.embeddings[places], objective.koleo.neighbours)
        if known:
            terms["loss"] = objective.total(terms)
        self.measured = {name: value.item() for name, value in sorted(terms.items())}
        self.measured |= verification(self.embeddings, triplets) if len(triplets) else {}
        self.measured |= {} if views is None else view_retrieval(self.embeddings, views)
        self.measured["cos_mean"] = mean_cosine(self.embeddings)
        if self.data.kind.verifies_pairs:
            self.measured |= self.measure_pairs(self.embeddings, part)

    def measure_pairs(self, embeddings: Tensor, part: str) -> dict[str, float]:
        """:func:`pair_verification` of the ``embeddings`` of a whole part on its pairs."""
        pairs, index = self.data.pairs(part), self.data.parts[part]
        labels = self.data.source.labels[torch.from_numpy(index)]
        return pair_verification(
            embeddings, labels, torch.from_numpy(np.searchsorted(index, pairs)), self.settings.pair_distance
        )

    def _triplets(self, part: str) -> np.ndarray:
        """The fixed triplets of ``part`` as places among its images, [T, 3]."""
        return np.searchsorted(self.data.parts[part], self.data.triplets[part])

    def _measure_monitored(self) -> None:
        """Measure what is monitored on the validation images, just embedded, where that is not done every epoch anyway.

        Raises:
            ConfigError: when it is undefined before training.
            RunError: when it is from a later epoch on.
        """
        name = self.monitor
        # cos_mean is measured more closely at the end of a run, and the last digit may choose the best.
        if name not in METRICS or (name in self.measured and name != "cos_mean"):
            return
        found = value_of(
            name,
            self.embeddings.numpy(),
            self.data.source.labels.numpy()[self.data.parts["validation"]],
            self._triplets("validation"),
            len(self.data.source.class_names),
            how(self.settings, self.settings.distance_threshold),
            roles_of(self.data.source, self.data.parts["validation"], self.settings),
            points_of(self._triplets("validation"), self.settings),
        )
        if not isinstance(found, Undefined):
            self.measured[name] = found
        elif self.trainer.sanity_checking:
            raise ConfigError(f"callbacks.monitor=val/{name}: undefined on the validation images: {found.reason}")
        else:
            raise RunError(f"val/{name} is undefined at epoch {self.trainer.current_epoch + 1}: {found.reason}")

    def _loss(self, part: str, embeddings: Tensor, labels: Tensor) -> Tensor:
        """The loss over ``part``, the mean over the batches that the data measures it on, whatever the
        size of those that train; a batch counts by its images."""
        total, images = torch.zeros(()), 0
        devices = [self.device] if self.device.type == "cuda" else []
        with (
            torch.inference_mode(False),  # what a loss keeps for itself must still be good for training
            torch.no_grad(),
            torch.autocast(self.device.type, enabled=False),
            torch.random.fork_rng(devices=devices),
        ):
            torch.manual_seed(0)  # for losses that draw
            for rows, tuples in self.data.measured(part):
                places = None if tuples is None else tuple(place.to(self.device) for place in tuples)
                named = self.objective.of_classes(labels[rows].to(self.device))
                value = self.objective.base(embeddings[rows].to(self.device), named, places)
                total, images = total + value.cpu() * len(rows), images + len(rows)
        return total / images

    def parameter_groups(self) -> Groups:
        return trained(self.net, self.objective, self.loss_lr, self.backbone_lr, self.layer_decay)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameter_groups())
        schedule = self.make_schedule(optimizer, int(self.trainer.estimated_stepping_batches))
        return optimizer if schedule is None else {"optimizer": optimizer, "lr_scheduler": schedule}
