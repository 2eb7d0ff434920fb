"""What a way to accumulate works with: the network and the objective, here and on the other devices."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from siamese.data import Batch, Layout
from siamese.losses import Objective
from siamese.training.window import LossInput, Place, join, place_in


@dataclass(frozen=True)
class Learner:
    """The network that is trained and what it is trained for, as one of ``trainer.world_size`` ranks.

    Attributes:
        layout: how the images of an item lie in a batch.
    """

    net: nn.Module
    objective: Objective
    layout: Layout
    trainer: pl.Trainer

    @property
    def device(self) -> torch.device:
        return self.trainer.strategy.root_device

    @property
    def ranks(self) -> int:
        return int(self.trainer.world_size)

    @property
    def window(self) -> int:
        """Micro-batches in a full window."""
        return int(self.trainer.accumulate_grad_batches)

    def place(self, batch_idx: int) -> Place:
        return place_in(self.trainer, batch_idx)

    def forward_context(self) -> AbstractContextManager[Any]:
        """Autocast as the training step has it."""
        return self.trainer.precision_plugin.forward_context()

    def embed(self, images: Tensor) -> Tensor:
        """The embeddings [n, D] of this rank's ``images``. All ranks have one stream of random numbers in common, so
        that a loss that draws is the same loss everywhere; what the network draws (dropout) is each rank's own."""
        if self.ranks == 1:
            return self.net(images)
        common = int(torch.randint(2**62, ()))
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(common + self.trainer.global_rank)
            return self.net(images)

    def gather(self, rows: Tensor) -> list[Tensor]:
        """``rows`` [n, ...] of every rank, by rank; see :func:`gather`."""
        return gather(self.trainer, rows)

    def union(self, embeddings: Tensor, batch: Batch) -> LossInput:
        """The batch that the ranks have between them, whose whole loss every rank computes.

        W ranks of B items then equal one rank of W·B: each rank's gradient through its own embeddings
        arrives W times over, and the mean over ranks that synchronises gradients divides by W.
        """
        if self.ranks == 1:
            return LossInput(embeddings, batch.labels, batch.tuples)
        every = zip(self.gather(embeddings), self.gather(batch.labels), strict=True)
        return join(self.layout, list(every))


def gather(trainer: pl.Trainer, rows: Tensor) -> list[Tensor]:
    """``rows`` [n, ...] of every rank, by rank; n may differ. The gradient of what is computed of them
    flows back to the rank they came from, summed over all ranks."""
    if trainer.world_size == 1:
        return [rows]
    strategy = trainer.strategy
    sizes = strategy.all_gather(torch.tensor(len(rows), device=rows.device)).tolist()
    padding = [0, 0] * (rows.dim() - 1) + [0, max(sizes) - len(rows)]
    padded = nn.functional.pad(rows, padding)
    every = strategy.all_gather(padded, sync_grads=rows.requires_grad)
    return [one[:size] for one, size in zip(every, sizes, strict=True)]
