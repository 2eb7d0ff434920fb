"""How far accumulated gradients are from that of one large batch, over many batches of one model and data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from scipy import stats
from torch.nn.modules.batchnorm import _BatchNorm

from siamese.accumulation import gradients
from siamese.accumulation.exact import Held
from siamese.accumulation.memory import Memory
from siamese.data import Batch
from siamese.losses import takes_references
from siamese.randomness import random_state

if TYPE_CHECKING:
    from siamese.module import SiameseModule


class Measured(NamedTuple):
    """Of one batch, cut into ``window`` micro-batches and accumulated in one way: of one term, its value and
    that over the whole batch, and its gradient beside the exact one (NaN where either is zero)."""

    accumulation: str
    term: str
    window: int
    value: float
    exact_value: float
    cosine: float
    norm_ratio: float


def measure(module: SiameseModule, batch: Batch, windows: Sequence[int], reference: int) -> Iterator[Measured]:
    """Cut ``batch`` in each of ``windows``, equally, and measure every way to accumulate.

    The exact gradient is that of the batch cut into ``reference`` micro-batches, which no cut changes, unless
    the network has BatchNorm: then it is that of the same cut.
    """
    terms = module.objective.terms
    names = terms if len(terms) == 1 else ["loss", *terms]
    normalises = any(isinstance(layer, _BatchNorm) for layer in module.net.modules())
    ways: dict[str, Memory | None] = {"naive": None}
    if any(takes_references(loss, drawn=batch.tuples is not None) for loss in module.objective.parts.values()):
        ways["memory"] = Memory()
    exact = None if normalises else gradients.exact(module, cut(module, batch, reference), names)
    for window in windows:
        held = cut(module, batch, window)
        whole = exact or gradients.exact(module, held, names)
        for way, memory in ways.items():
            taken = gradients.accumulated(module, held, names, memory)
            for name in names:
                found = gradients.compare(taken.vectors[name], whole.vectors[name])
                cosine, ratio = found or (math.nan, math.nan)
                yield Measured(way, name, window, taken.values[name], whole.values[name], cosine, ratio)


def cut(module: SiameseModule, batch: Batch, window: int) -> list[Held]:
    """The items of ``batch``, images already made, as ``window`` micro-batches of nearly equal size."""
    layout = module.data.layout
    count, held = len(batch.labels) // layout.images, []
    for i in range(window):
        start, end = i * count // window, (i + 1) * count // window
        images, labels = (layout.items(rows, start, end) for rows in (batch.images, batch.labels))
        held.append(Held(batch._replace(images=images, labels=labels, tuples=layout.tuples_of(labels)), random_state()))
    return held


class Mean(NamedTuple):
    """The mean of several batches, and the ends of its 95 % t interval (NaN for a single batch)."""

    mean: float
    low: float
    high: float


def mean(values: Sequence[float]) -> Mean:
    """Of those of ``values`` that are numbers."""
    found = torch.tensor([value for value in values if math.isfinite(value)], dtype=torch.float64)
    if len(found) < 2:
        return Mean(float(found.mean()) if len(found) else math.nan, math.nan, math.nan)
    half = float(stats.t.ppf(0.975, len(found) - 1)) * float(found.std()) / math.sqrt(len(found))
    centre = float(found.mean())
    return Mean(centre, centre - half, centre + half)
