"""How long training takes to an embedding of a certain quality: a notebook's loop, and two experiments of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from benchmarks.fitting import fit
from benchmarks.setup import Setup, composed
from benchmarks.timing import LeftOut, not_reached, now, result
from benchmarks.training import Notebook, notebooks_process, step
from siamese.config.schema import Config
from siamese.evaluation.verification import verification
from siamese.training.build import split_data

AUC = (0.90, 0.93, 0.95)
ENDLESS = 10_000  # epochs, of what has no schedule that ends
# Of all: one seed and so one split and the same validation triplets, no image of which is trained on; random weights.
SPLIT = ("seed=42", "data.split=by_image", "callbacks.checkpoint_every=null")
EXPERIMENTS = {
    "experiment=article": ("experiment=article", f"trainer.max_epochs={ENDLESS}"),
    "experiment=from_scratch": ("experiment=from_scratch",),  # its schedule ends with its epochs
}


@dataclass(frozen=True)
class Epoch:
    """The ``seconds`` of an epoch, from its first step to the end of its validation, and what it came to: ``auc`` of
    the validation triplets."""

    seconds: float
    auc: float


def quality(setup: Setup) -> list[dict[str, Any]]:
    """Seconds until the AUC of the validation triplets is first as high as each of :data:`AUC`, at the end of an epoch.

    The AUC of all is computed alike, on the same triplets of validation images, after each epoch, and from the
    embeddings that each contestant gives (from_scratch's are of averaged weights, and of each image with its mirror
    image). Evaluation counts for all of them; writing checkpoints and the validation before training do not. Each
    trains until it has reached the highest, its epochs are over, or ``setup.quality_seconds`` are; once, in one turn.

    Raises:
        LeftOut: without a folder of images, for noise has no classes to tell apart.
    """
    if setup.data_root is None:
        raise LeftOut("it needs --data-root, a folder of images with classes, in which there is something to learn")
    with notebooks_process() as pool:
        contestants = {"the notebook's loop": pool.submit(notebook_epochs, replace(setup)).result()}
    for name in EXPERIMENTS:
        contestants[name] = our_epochs(setup, experiment(setup, name))
    return told(contestants, setup.quality_seconds)


def told(contestants: Mapping[str, Sequence[Epoch]], limit: float) -> list[dict[str, Any]]:
    """When each of ``contestants`` reached each of :data:`AUC`, or that it did not within ``limit`` seconds."""
    found = []
    for name, epochs in contestants.items():
        for auc in AUC:
            what, seconds = f"until a validation AUC of {auc:.2f}: {name}", reached(epochs, auc, limit)
            if seconds is None:
                found.append(not_reached(what, "s", f"{what}: {shortfall(epochs, limit)}"))
            else:
                found.append(result(what, "s", [seconds], "<", None))
    return found


def reached(epochs: Sequence[Epoch], auc: float, limit: float) -> float | None:
    """Seconds from the first step to the end of the first of ``epochs`` at ``auc`` or above, of those that end within
    ``limit`` seconds; None where there is none."""
    return next((seconds for seconds, found in _within(epochs, limit) if found >= auc), None)


def shortfall(epochs: Sequence[Epoch], limit: float) -> str:
    """How far ``epochs`` came within ``limit`` seconds, in words."""
    within = _within(epochs, limit)
    if not within:
        return f"not within {limit:g} s (no epoch ended)"
    best, (end, _) = max(auc for _, auc in within), within[-1]
    return f"not within {limit:g} s (best AUC {best:.3f}, epochs {len(within)}, which took {end:.0f} s)"


def _within(epochs: Sequence[Epoch], limit: float) -> list[tuple[float, float]]:
    """The end of each of ``epochs`` in seconds from the first step, and its AUC, up to ``limit`` seconds."""
    ends = accumulate(epoch.seconds for epoch in epochs)
    return [(end, epoch.auc) for end, epoch in zip(ends, epochs, strict=True) if end <= limit]


def experiment(setup: Setup, name: str) -> Config:
    """The configuration of one of :data:`EXPERIMENTS`, in bfloat16 where the hardware has it, as device=auto is."""
    days, rest = divmod(setup.quality_seconds, 24 * 3600)
    limit = f"trainer.max_time={days:02d}:{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    device = (f"device={setup.device}", "device.precision=auto")
    return composed(setup.experiment(*EXPERIMENTS[name], *SPLIT, *device, limit))


class Until(pl.Callback):
    """Ends training after the first epoch at or above ``auc`` (of the validation triplets)."""

    def __init__(self, auc: float) -> None:
        self.auc = auc

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        measured: Any = pl_module.measured
        if not trainer.sanity_checking and measured["auc"] >= self.auc:
            trainer.should_stop = True


def our_epochs(setup: Setup, config: Config) -> list[Epoch]:
    """The epochs of a fit as ``config`` says, up to the first at or above the highest of :data:`AUC`."""
    rows = fit(setup.source, config, Until(max(AUC)))
    return [Epoch(float(row["seconds"]), float(row["val/auc"])) for row in rows[1:]]


def notebook_epochs(setup: Setup) -> list[Epoch]:
    """The epochs of the notebook's loop over the training triplets of ``experiment=article``, measured after each on
    the validation triplets of all, up to the highest of :data:`AUC` or the end of ``setup.quality_seconds``."""
    config = experiment(setup, "experiment=article")
    data = split_data(config, setup.source)
    torch.manual_seed(config.seed)
    triplets = setup.source.images[data.epoch(0).items] / 255
    notebook = Notebook(triplets, data.mean, data.std, device=setup.device, batch=int(config.data.batch_size))
    epochs, left = list[Epoch](), float(setup.quality_seconds)
    index = torch.from_numpy(data.parts["validation"])
    fixed = torch.searchsorted(index, torch.from_numpy(data.triplets["validation"]))
    while left > 0 and (not epochs or epochs[-1].auc < max(AUC)):
        began = now(setup.device)
        for batch in notebook.loader:
            step(notebook, batch)
            if time.perf_counter() - began > left:
                break
        embeddings = embedded(notebook, setup.source.images[index], config.data.eval_batch_size)
        auc = verification(embeddings, fixed)["auc"]
        epochs.append(Epoch(now(setup.device) - began, auc))
        left -= epochs[-1].seconds
    return epochs


@torch.inference_mode()
def embedded(notebook: Notebook, images: Tensor, batch: int) -> Tensor:
    """The embeddings float32 [N, D] of uint8 ``images`` [N, 3, 32, 32], so many at a time, as they are."""
    notebook.net.eval()
    parts = [notebook.net(notebook.normalize(part / 255).to(notebook.device)).cpu() for part in images.split(batch)]
    notebook.net.train()
    return torch.cat(parts)
