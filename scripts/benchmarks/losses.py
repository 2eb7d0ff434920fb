"""The losses beside their nearest relatives in pytorch-metric-learning: time, and the memory of KoLeo."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pytorch_metric_learning import losses as library
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from benchmarks.setup import Setup
from benchmarks.timing import interleaved, paired_ratios, peak_bytes, result
from siamese import losses as project

N, D, IMAGES_PER_CLASS = 1024, 128, 8
Loss = Callable[..., Tensor]
EUCLIDEAN, SQUARED = (LpDistance(normalize_embeddings=False, p=2, power=power) for power in (1, 2))


def mined(loss: Loss) -> Loss:
    """``loss`` over the hardest triplet of every anchor, as the library does it: mined, then computed."""
    miner = BatchHardMiner(distance=SQUARED)
    return lambda z, labels, _: loss(z, labels, miner(z, labels))


def triplet_margin(smooth: bool) -> Loss:
    return library.TripletMarginLoss(1.0, distance=SQUARED, smooth_loss=smooth, reducer=MeanReducer())


# Ours, and the library's with the same or the nearest formula that can hold this batch; None where there is none.
RELATIVES: dict[str, tuple[Loss, Loss | None]] = {
    "contrastive": (project.ContrastiveLoss(), library.ContrastiveLoss(distance=EUCLIDEAN)),
    "triplet_hard": (project.TripletHardLoss(), mined(triplet_margin(smooth=False))),
    "triplet_soft": (project.TripletSoftLoss(), mined(triplet_margin(smooth=True))),
    "lifted": (project.LiftedLoss(), library.GeneralizedLiftedStructureLoss(distance=EUCLIDEAN)),
    "n_pair": (project.NPairLoss(), library.SupConLoss(temperature=1.0)),
    "constellation": (project.ConstellationLoss(), library.SupConLoss(temperature=1.0)),
    "instance": (project.InstanceLoss(), library.SupConLoss(temperature=0.1)),
    "triplet_batch_all": (project.BatchAllTripletLoss(), None),
    "triplet_centroid": (project.TripletCentroidLoss(), None),
    "larl": (project.LabelAwareRankedLoss(), None),
    "magnet": (project.MagnetLoss(), None),
}


def seconds(loss: Loss) -> float:
    """Seconds of one forward and backward pass over ``N`` normalised embeddings of ``D`` dimensions."""
    z = torch.nn.functional.normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)))
    z.requires_grad_()
    began = time.perf_counter()
    loss(z, torch.arange(N) % (N // IMAGES_PER_CLASS), None).backward()
    return time.perf_counter() - began


def sides(name: str) -> dict[str, Callable[[], float]]:
    """What measures ours, and the library's where there is one, in seconds."""
    ours, theirs = RELATIVES[name]
    found: dict[str, Callable[[], float]] = {"ours": partial(seconds, ours)}
    return found if theirs is None else found | {"library": partial(seconds, theirs)}


def against_library(setup: Setup) -> list[dict[str, Any]]:
    """A forward and a backward pass of each loss of ours against the nearest of pytorch-metric-learning, and
    the memory of KoLeo over 16,384 embeddings."""
    found = []
    for name in RELATIVES:
        samples = interleaved(sides(name), setup.repeats)
        if "library" in samples:
            ratios = paired_ratios(samples["ours"], samples["library"])
            found.append(result(f"{name}, time of the nearest library loss's", "×", ratios, "<", 2, **samples))
        else:
            found.append(result(f"{name}, time", "s", samples["ours"], "<", None, **samples))
    peaks = interleaved({"holds": partial(peak_bytes, "-c", HOLDS), "koleo": partial(peak_bytes, "-c", KOLEO)}, 1)
    more = [b - a for a, b in zip(peaks["holds"], peaks["koleo"], strict=True)]
    what = "peak of KoLeo, N = 16,384, with its gradient, beyond holding the embeddings"
    found.append(result(what, "bytes", more, "<", 1e9, **peaks))
    return found


# A process that holds the embeddings, and one that goes on to KoLeo.
HOLDS = """
import torch
from siamese.losses import koleo
z = torch.randn(16384, 128, requires_grad=True)
"""
KOLEO = HOLDS + "koleo(z).backward()"
