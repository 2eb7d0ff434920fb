"""The speed of the losses beside their nearest relatives in pytorch-metric-learning, for benchmark.py."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from pytorch_metric_learning import losses as library
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from torch import Tensor

from siamese import losses

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
    "contrastive": (losses.ContrastiveLoss(), library.ContrastiveLoss(distance=EUCLIDEAN)),
    "triplet_hard": (losses.TripletHardLoss(), mined(triplet_margin(smooth=False))),
    "triplet_soft": (losses.TripletSoftLoss(), mined(triplet_margin(smooth=True))),
    "lifted": (losses.LiftedLoss(), library.GeneralizedLiftedStructureLoss(distance=EUCLIDEAN)),
    "n_pair": (losses.NPairLoss(), library.SupConLoss(temperature=1.0)),
    "constellation": (losses.ConstellationLoss(), library.SupConLoss(temperature=1.0)),
    "instance": (losses.InstanceLoss(), library.SupConLoss(temperature=0.1)),
    "triplet_batch_all": (losses.BatchAllTripletLoss(), None),
    "triplet_centroid": (losses.TripletCentroidLoss(), None),
    "larl": (losses.LabelAwareRankedLoss(), None),
    "magnet": (losses.MagnetLoss(), None),
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
