"""The evaluation of a checkpoint: everything measured on a part of the data, as arrays, figures and entries of
summary.json."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from siamese.artifacts import RunDirectory
from siamese.checkpoints import loads
from siamese.data import LabelledImages, SiameseData, draw_triplets
from siamese.data.draws import generator
from siamese.errors import RunError
from siamese.evaluation.measure import Measured, measure
from siamese.evaluation.metrics import Undefined, Values, defined, direction
from siamese.evaluation.pairs import problem
from siamese.module import SiameseModule
from siamese.schema import Config, Evaluation

log = logging.getLogger(__name__)

PREFIXES = {"validation": "val", "test": "test"}
QUERIES, NEIGHBOURS, HARDEST = 10, 8, 6  # shown in the figures

Entries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Part:
    """Embedded images.

    Attributes:
        name: validation or test.
        embeddings: float32 [N, D].
        labels: int64 [N], indices into ``class_names`` [C].
        ids: text [N].
        triplets: positions [T, 3] of anchor, positive and negative.
        images: uint8 [N, 3, H, W].
    """

    name: str
    embeddings: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    class_names: Sequence[str]
    triplets: np.ndarray
    images: np.ndarray


def restore(module: nn.Module, path: Path, prefix: str = "") -> int:
    """Give ``module`` the weights that the checkpoint in ``path`` has under ``prefix``; the whole epochs
    that they were trained for.

    Raises:
        RunError: when there is no checkpoint, it cannot be read, or it is of another architecture.
    """
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.ckpt"))
        there = f"there is {', '.join(others)}" if others else "the run has not finished an epoch"
        raise RunError(f"{path}: not found; {there}")
    checkpoint = loads(path)
    if checkpoint is None:
        raise RunError(f"{path}: cannot be read as a checkpoint")
    weights = checkpoint["state_dict"]
    try:
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        return int(checkpoint["epoch"]) + bool(progress["is_last_batch"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: not a checkpoint of this run's model ({reason})") from None


def evaluate(
    config: Config,
    run: RunDirectory,
    module: SiameseModule,
    data: SiameseData,
    trainer: pl.Trainer,
    epoch: int,
    parts: Iterable[str] = PREFIXES,
    threshold: float | None = None,
) -> tuple[Entries, list[str]]:
    """Measure ``module``, of ``epoch``, on ``parts`` of its data and write their arrays.

    Args:
        threshold: the distance that accuracies are measured at, where the configuration has none; None
            takes the best for the first of the parts.

    Returns:
        The entries of summary.json, and what there is to say besides.
    """
    entries: Entries = {}
    notes: list[str] = []
    threshold = config.evaluation.distance_threshold or threshold
    for name in parts:
        test = trainer.validate if name == "validation" else trainer.test
        test(module, datamodule=data, verbose=False)
        part = embedded(module, data, name)
        found = evaluate_part(run, part, config.evaluation, threshold)
        threshold = found.threshold
        losses: Values = {name: value for name, value in module.measured.items() if name not in found.values}
        entries |= part_entries(name, losses | found.values, epoch, threshold)
        notes += said_of(part, found)
    return entries, notes


def embedded(module: SiameseModule, data: SiameseData, name: str) -> Part:
    """The part ``name`` of ``data``, that ``module`` has just embedded."""
    index = data.parts[name]
    return Part(
        name,
        module.embeddings.numpy(),
        data.source.labels.numpy()[index],
        data.source.ids[index],
        data.source.class_names,
        np.searchsorted(index, data.triplets[name]),
        data.source.images[torch.from_numpy(index)].numpy(),
    )


def embed(net: nn.Module, source: LabelledImages, config: Config) -> Part:
    """Embed the images that ``source`` sets apart for testing, or all where it sets none apart, under the
    device and precision of ``config``. The triplets are drawn as those of any test part are; images of
    classes that have no other image are in none."""
    from lightning_fabric import Fabric  # which imports torch's compiler, and that a lot

    index = np.flatnonzero(source.is_test if source.is_test.any() else ~source.is_test)
    labels = source.labels.numpy()[index]
    device = config.device
    fabric = Fabric(accelerator=device.accelerator, devices=1, precision=device.precision)  # type: ignore[arg-type]
    net = fabric.setup_module(net.eval())
    batches = torch.from_numpy(index).split(config.data.eval_batch_size)
    with torch.inference_mode():
        embeddings = torch.cat([net(fabric.to_device(source.images[b])).float().cpu() for b in batches])
    paired = np.flatnonzero(np.bincount(labels)[labels] > 1)
    triplets = np.empty((0, 3), dtype=np.int64)
    if len(np.unique(labels[paired])) > 1:
        random = generator(config.seed, "test triplets")
        triplets = paired[draw_triplets(labels[paired], None, random)]
    images = source.images[torch.from_numpy(index)].numpy()
    return Part("test", embeddings.numpy(), labels, source.ids[index], source.class_names, triplets, images)


def measured(part: Part, settings: Evaluation, threshold: float | None) -> Measured:
    """Everything there is to measure on ``part``."""
    return measure(
        part.embeddings,
        part.labels,
        part.triplets,
        part.class_names,
        coverage=settings.coverage,
        threshold=threshold,
        spread_images=settings.spread_images,
    )


def evaluate_part(run: RunDirectory, part: Part, settings: Evaluation, threshold: float | None) -> Measured:
    """Measure ``part`` and write its arrays."""
    log.info("measuring %s images of %s", f"{len(part.labels):,}", part.name)
    found = measured(part, settings, threshold)
    run.arrays(
        part.name,
        embeddings=part.embeddings,
        labels=part.labels,
        ids=part.ids,
        class_names=np.array(part.class_names),
        triplets=part.triplets,
    )
    for name, arrays in found.arrays.items():
        run.arrays(f"{name}_{part.name}", **arrays)
    if problem(part.embeddings, part.labels) is None:
        if len(part.labels) > 1:
            run.arrays(f"gallery_{part.name}", **gallery(part))
        if len(part.triplets):
            run.arrays(f"hardest_{part.name}", **hardest(part))
    return found


def part_entries(part: str, values: Values, epoch: int, threshold: float | None) -> Entries:
    """What was measured on ``part`` as entries of summary.json, accuracy with its ``threshold``."""
    prefix = PREFIXES[part]
    entries = {f"{prefix}/{name}": entry(value, part, epoch, direction(name)) for name, value in values.items()}
    entries[f"{prefix}/accuracy"]["threshold"] = threshold
    return entries


def said_of(part: Part, found: Measured) -> Iterator[str]:
    """In words, what a table of numbers does not say: the classes nearest to each other, and why values
    are undefined."""
    names = part.class_names
    if found.confused:
        pairs = (f"{names[pair.one]} and {names[pair.other]} {pair.distance:.3f}" for pair in found.confused)
        yield f"{part.name}: the classes nearest to each other: {', '.join(pairs)}"
    reasons: dict[str, list[str]] = {}
    for name, value in found.values.items():
        if isinstance(value, Undefined):
            reasons.setdefault(value.reason, []).append(name)
    for reason, undefined in reasons.items():
        which = ", ".join(undefined[:6]) + (f" and {len(undefined) - 6} more" if len(undefined) > 6 else "")
        yield f"{part.name}: undefined: {which}: {reason}"


def entry(
    value: float | Undefined, split: str, epoch: int, direction: str | None, batch_dependent: bool = False
) -> dict[str, Any]:
    """One entry of summary.json; an undefined value is null and has its ``reason``."""
    if isinstance(value, float) and not math.isfinite(value):
        value = Undefined(f"it is {value}")
    about = {"split": split, "epoch": epoch, "direction": direction, "batch_dependent": batch_dependent}
    if isinstance(value, Undefined):
        return {"value": None, **about, "reason": value.reason}
    return {"value": value, **about}


class EveryEpochs(pl.Callback):
    """Measures everything but single classes on the validation images every ``settings.every`` epochs,
    before training too. It comes before the callback that records what the module has measured."""

    def __init__(self, settings: Evaluation) -> None:
        self.settings = settings

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SiameseModule)
        assert self.settings.every is not None
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        if trainer.state.fn != "fit" or epoch % self.settings.every:
            return
        part = embedded(pl_module, pl_module.data, "validation")
        found = defined(measured(part, self.settings, self.settings.distance_threshold).values)
        more = {name: value for name, value in found.items() if name not in pl_module.measured and "/" not in name}
        pl_module.measured |= more
        for logger in trainer.loggers:
            logger.log_metrics({f"val/{name}": value for name, value in more.items()}, trainer.global_step)


def gallery(part: Part) -> dict[str, np.ndarray]:
    """Queries and their nearest neighbours by cosine. The queries are the first image of every class,
    the second, and so on, up to 10: the same whatever embeds them."""
    order = np.argsort(part.labels, kind="stable")
    starts = np.searchsorted(part.labels[order], part.labels[order])
    place_in_class = np.empty_like(order)
    place_in_class[order] = np.arange(len(order)) - starts
    queries = np.lexsort((part.labels, place_in_class))[:QUERIES]
    queries = queries[np.lexsort((queries, part.labels[queries]))]
    z = _unit(part.embeddings)
    cosines = z[queries] @ z.T
    cosines[np.arange(len(queries)), queries] = -np.inf
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(z) - 1)]
    return {
        "query_ids": part.ids[queries],
        "query_labels": part.labels[queries],
        "query_images": part.images[queries],
        "neighbour_ids": part.ids[nearest],
        "neighbour_labels": part.labels[nearest],
        "neighbour_images": part.images[nearest],
        "cosines": np.take_along_axis(cosines, nearest, axis=1),
    }


def hardest(part: Part) -> dict[str, np.ndarray]:
    """The triplets whose positive is farthest beyond the negative, by cosine distance."""
    anchor, positive, negative = (_unit(part.embeddings[part.triplets[:, role]]) for role in range(3))
    distances = np.stack([1 - (anchor * positive).sum(1), 1 - (anchor * negative).sum(1)], axis=1)
    chosen = np.argsort(distances[:, 1] - distances[:, 0], kind="stable")[:HARDEST]
    triplets = part.triplets[chosen]
    return {
        "images": part.images[triplets],
        "labels": part.labels[triplets],
        "ids": part.ids[triplets],
        "distances": distances[chosen],
    }


def _unit(embeddings: np.ndarray) -> np.ndarray:
    wide = embeddings.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
