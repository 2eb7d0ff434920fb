"""Windows: the micro-batches of one optimizer step, and what a loss is called with."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import Tensor

from siamese.data.batch import Layout, Tuples


class Place(NamedTuple):
    """Where a micro-batch stands in its window of ``length`` micro-batches."""

    first: bool
    last: bool
    length: int


def place(batch_idx: int, batches: int, window: int) -> Place:
    """The place of micro-batch ``batch_idx`` of an epoch of ``batches``, cut into windows of ``window``;
    the last window of an epoch may be shorter."""
    start = batch_idx - batch_idx % window
    length = min(window, batches - start)
    return Place(batch_idx == start, batch_idx == start + length - 1, length)


def place_in(trainer: pl.Trainer, batch_idx: int) -> Place:
    """:func:`place` in the windows of ``trainer``."""
    return place(batch_idx, int(trainer.num_training_batches), trainer.accumulate_grad_batches)


class LossInput(NamedTuple):
    """What a loss is called with: ``embeddings`` [N, D], ``labels`` [N] and the ``indices_tuple``."""

    embeddings: Tensor
    labels: Tensor
    tuples: Tuples


def join(layout: Layout, parts: list[tuple[Tensor, Tensor]]) -> LossInput:
    """The (embeddings, labels) of several batches as one batch of all their items has them."""
    embeddings = layout.join([part[0] for part in parts])
    labels = layout.join([part[1] for part in parts])
    return LossInput(embeddings, labels, layout.tuples_of(labels))


def output(loss: Tensor, terms: dict[str, Tensor], items: int, images: int, embeddings: int) -> dict[str, Any]:
    """What a training step returns.

    Args:
        loss: what Lightning divides by the window and descends.
        terms: the loss as measured and its terms, by name; empty where it is known only later.
        items: the tuples that ``terms`` are means over.
        images: how many images those are made of.
        embeddings: how many the loss was called with.
    """
    return {"loss": loss, "terms": terms, "items": items, "images": images, "embeddings": embeddings}
