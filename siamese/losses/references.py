"""Embeddings that a loss sees beside the batch, without a gradient of their own."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class References(NamedTuple):
    """``embeddings`` [M, D], detached, and their ``labels`` [M]."""

    embeddings: Tensor
    labels: Tensor


def beside(embeddings: Tensor, labels: Tensor, references: References) -> tuple[Tensor, Tensor]:
    """The batch [N, D] with M references after it, as one batch [N + M, D] and its labels [N + M].

    A loss that is a mean over its batch gives each row a gradient in proportion to 1 / (N + M). The
    gradient that arrives at the N rows is multiplied by (N + M) / N, so that it weighs as in a batch
    of N: batches that see a different number of references then count alike, and the gradient is
    exactly that part of the gradient of the batch of N + M which belongs to the N rows, times
    (N + M) / N.
    """
    share = (len(embeddings) + len(references.labels)) / len(embeddings)
    rows = embeddings.view_as(embeddings)
    if rows.requires_grad:
        rows.register_hook(lambda gradient: gradient * share)
    return torch.cat([rows, references.embeddings.to(rows)]), torch.cat([labels, references.labels.to(labels)])
