"""The batch across devices: the union of what every rank has embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from siamese.accumulation.window import Seen, join
from siamese.data import Batch

if TYPE_CHECKING:
    from siamese.module import SiameseModule


def embed(module: SiameseModule, images: Tensor) -> Tensor:
    """The embeddings [n, D] of this rank's ``images``. All ranks have one stream of random numbers in common, so
    that a loss that draws is the same loss everywhere; what the network draws (dropout) is each rank's own."""
    if module.trainer.world_size == 1:
        return module.net(images)
    common = int(torch.randint(2**62, ()))
    with torch.random.fork_rng([module.device] if module.device.type == "cuda" else []):
        torch.manual_seed(common + module.trainer.global_rank)
        return module.net(images)


def gather(module: SiameseModule, rows: Tensor) -> list[Tensor]:
    """``rows`` [n, ...] of every rank, by rank; n may differ. The gradient of what is computed of them
    flows back to the rank they came from, summed over all ranks."""
    if module.trainer.world_size == 1:
        return [rows]
    strategy = module.trainer.strategy
    sizes = strategy.all_gather(torch.tensor(len(rows), device=rows.device)).tolist()
    padding = [0, 0] * (rows.dim() - 1) + [0, max(sizes) - len(rows)]
    padded = nn.functional.pad(rows, padding)
    every = strategy.all_gather(padded, sync_grads=rows.requires_grad)
    return [one[:size] for one, size in zip(every, sizes, strict=True)]


def union(module: SiameseModule, embeddings: Tensor, batch: Batch) -> Seen:
    """The batch that the ranks have between them, whose whole loss every rank computes.

    W ranks of B items then equal one rank of W·B: each rank's gradient through its own embeddings
    arrives W times over, and the mean over ranks that synchronises gradients divides by W.
    """
    if module.trainer.world_size == 1:
        return Seen(embeddings, batch.labels, batch.tuples)
    every = zip(gather(module, embeddings), gather(module, batch.labels), strict=True)
    return join(module.data.layout, list(every))
