"""How far accumulated gradients are from that of one large batch, over many batches of one model and data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.nn.modules.batchnorm import _BatchNorm

from siamese.compare.statistics import t_interval
from siamese.data import Batch
from siamese.losses import traits
from siamese.training.accumulation.exact import PendingBatch
from siamese.training.accumulation.memory import Memory
from siamese.training.gradient_study import gradients
from siamese.training.learner import Learner
from siamese.training.random_state import random_state


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


def measure(learner: Learner, batch: Batch, windows: Sequence[int], reference: int) -> Iterator[Measured]:
    """Cut ``batch`` in each of ``windows``, equally, and measure every way to accumulate.

    The exact gradient is that of the batch cut into ``reference`` micro-batches, which no cut changes, unless
    the network has BatchNorm: then it is that of the same cut.
    """
    terms = learner.objective.terms
    names = terms if len(terms) == 1 else ["loss", *terms]
    normalises = any(isinstance(layer, _BatchNorm) for layer in learner.net.modules())
    ways: dict[str, Memory | None] = {"naive": None}
    drawn = batch.tuples is not None
    if any(traits(loss).takes_references(drawn=drawn) for loss in learner.objective.parts.values()):
        ways["memory"] = Memory()
    exact = None if normalises else gradients.exact(learner, cut(learner, batch, reference), names)
    for window in windows:
        pending = cut(learner, batch, window)
        whole = exact or gradients.exact(learner, pending, names)
        for way, memory in ways.items():
            taken = gradients.accumulated(learner, pending, names, memory)
            for name in names:
                found = gradients.compare(taken.vectors[name], whole.vectors[name])
                cosine, ratio = found or (math.nan, math.nan)
                yield Measured(way, name, window, taken.values[name], whole.values[name], cosine, ratio)


def cut(learner: Learner, batch: Batch, window: int) -> list[PendingBatch]:
    """The items of ``batch``, images already made, as ``window`` micro-batches of nearly equal size."""
    layout = learner.layout
    count, pending = len(batch.labels) // layout.images, []
    for i in range(window):
        start, end = i * count // window, (i + 1) * count // window
        pending.append(PendingBatch(layout.cut(batch, start, end), random_state()))
    return pending


class Mean(NamedTuple):
    """The mean of several batches, and the ends of its 95 % t interval (NaN for a single batch)."""

    mean: float
    low: float
    high: float


def mean(values: Sequence[float]) -> Mean:
    """Of those of ``values`` that are numbers."""
    found = [value for value in values if math.isfinite(value)]
    if len(found) < 2:
        return Mean(found[0] if found else math.nan, math.nan, math.nan)
    return Mean(math.fsum(found) / len(found), *t_interval(np.array(found)))
