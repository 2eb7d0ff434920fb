"""What losses over all pairs of a batch share: blocks of rows, who is of one label, distances.

Matrices [N, N] are worked through in blocks of rows, so that a whole split can be measured at once;
nothing is ever [N, N, N].
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_ENTRIES = 1 << 22  # entries of a matrix held at a time: 16 MB in float32


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Consecutive slices of ``rows`` rows, each of at most BLOCK_ENTRIES entries (or one row)."""
    height = max(1, BLOCK_ENTRIES // max(columns, 1))
    for start in range(0, rows, height):
        yield slice(start, min(start + height, rows))


def relations(labels: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Masks [R, N] of the positives (the row itself apart) and of the negatives of ``rows``."""
    same = labels[rows, None] == labels
    positive = same.clone()
    positive.diagonal(rows.start).fill_(False)
    return positive, ~same


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances [N, M] of ``x`` [N, D] to ``y`` [M, D], by one matrix product."""
    return torch.addmm(_scale(x, y), x, y.t(), alpha=-2).clamp(min=0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances [N, M]; one below the resolution of the matrix product is 0 and has no gradient."""
    squared = squared_distances(x, y)
    apart = squared.detach() > 8 * torch.finfo(x.dtype).eps * _scale(x, y).detach()
    return torch.where(apart, torch.where(apart, squared, 1).sqrt(), 0)


def _scale(x: Tensor, y: Tensor) -> Tensor:
    return x.square().sum(1)[:, None] + y.square().sum(1)


def masked_logsumexp(x: Tensor, mask: Tensor, largest: int | None = None) -> Tensor:
    """log Σ exp over the entries of each row of ``x`` [R, N] that ``mask`` admits, or over the
    ``largest`` of them (fewer where there are fewer); hugely negative, with zero gradient, for a row
    without any."""
    admitted = x.masked_fill(~mask, torch.finfo(x.dtype).min / 2)
    return (admitted if largest is None else admitted.topk(min(largest, x.shape[1]), dim=1).values).logsumexp(1)


def mean(x: Tensor) -> Tensor:
    """The mean of ``x``; 0, with zero gradient, of nothing."""
    return x.sum() / max(x.numel(), 1)
