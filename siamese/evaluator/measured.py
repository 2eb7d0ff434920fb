"""The evaluation of embedded images: everything there is to measure, as arrays and entries of summary.json."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from siamese.config.schema import Config, Evaluation
from siamese.data import LabelledImages, draw_triplets
from siamese.data.draws import generator
from siamese.data.images import NO_CLASS, pixels
from siamese.errors import ConfigError
from siamese.evaluation.blocks import problem
from siamese.evaluation.classified import class_accuracy
from siamese.evaluation.measure import How, Measured, Roles, measure
from siamese.evaluation.names import Undefined, Values, direction
from siamese.evaluator.part import Part, pictures
from siamese.evaluator.progress import measuring
from siamese.evaluator.tables import Kept, class_rows, failure_rows, write_table
from siamese.models import mirrored
from siamese.runs.directory import RunDirectory

log = logging.getLogger(__name__)

PREFIXES = {"validation": "val", "test": "test"}

Entries = dict[str, dict[str, Any]]


def evaluate(
    run: RunDirectory,
    parts: Iterable[tuple[Part, Values]],
    settings: Evaluation,
    epoch: int,
    threshold: float | None = None,
    chosen: Values | None = None,
    kept: Kept = Kept(),  # noqa: B008 (frozen)
) -> tuple[Entries, list[str]]:
    """Measure ``parts``, embedded with the weights of ``epoch``, and write their arrays, per_class.csv and
    failures.csv.

    Args:
        parts: each with what was measured on it already, its losses.
        threshold: the distance that accuracies are measured at, where ``settings`` have none; None
            takes the best for the first of the parts.
        chosen: the thresholds that were found on validation images; None takes those of the first of the parts.
        kept: rows of the tables that were there before; those of other parts stay.

    Returns:
        The entries of summary.json, and what there is to say besides.
    """
    entries: Entries = {}
    notes: list[str] = []
    classes: list[dict[str, str]] = []
    wrong: list[dict[str, str]] = []
    threshold = settings.distance_threshold or threshold
    for part, known in parts:
        found = evaluate_part(run, part, settings, threshold, chosen)
        threshold = found.threshold
        chosen = thresholds_in(found.values) if chosen is None else chosen
        others: Values = {name: value for name, value in known.items() if name not in found.values}
        told = part.told
        told_right: Values = (
            {} if told is None else {"class_accuracy": class_accuracy(told.predicted, part.labels, told.classes)}
        )
        entries |= part_entries(part, others | found.values | told_right, found, epoch)
        notes += said_of(part, found)
        classes += class_rows(part, found)
        wrong += failure_rows(part, found)
    measured = {part for part, prefix in PREFIXES.items() if f"{prefix}/accuracy" in entries}
    write_table(run, "per_class", [*(row for row in kept.classes if row["part"] not in measured), *classes])
    write_table(run, "failures", [*(row for row in kept.failures if row["part"] not in measured), *wrong])
    return entries, notes


def thresholds_in(values: Mapping[str, float | Undefined]) -> Values:
    """Those of ``values`` that are thresholds."""
    return {name: value for name, value in values.items() if name.startswith("threshold_at_")}


def chosen_in(entries: Mapping[str, Mapping[str, Any]]) -> Values:
    """The thresholds of validation images that ``entries`` of summary.json hold."""
    found = {name.removeprefix("val/"): of for name, of in entries.items() if name.startswith("val/threshold_at_")}
    return {
        name: Undefined(str(of.get("reason"))) if of["value"] is None else of["value"] for name, of in found.items()
    }


def embed(net: nn.Module, source: LabelledImages, config: Config, *, unseen: bool) -> Part:
    """Embed the images that ``source`` sets apart for testing, or all where it sets none apart, under the
    device and precision of ``config``. The triplets are drawn as those of any test part are; images of
    classes that have no other image are in none. ``unseen`` says whether none of their classes was trained on."""
    from lightning_fabric import Fabric  # which imports torch's compiler, and that a lot

    index = np.flatnonzero(source.is_test if source.is_test.any() else ~source.is_test)
    labels = source.labels.numpy()[index]
    device = config.device
    fabric = Fabric(accelerator=device.accelerator, devices=1, precision=device.precision)  # type: ignore[arg-type]
    net = fabric.setup_module(net.eval())
    batches = torch.from_numpy(index).split(config.data.eval_batch_size)
    with torch.inference_mode():
        embeddings = torch.cat(
            [
                mirrored.embed(net, fabric.to_device(source.images[b]), flip=config.evaluation.flip).float().cpu()
                for b in batches
            ]
        )
    return Part(
        "test",
        embeddings.numpy(),
        labels,
        source.ids[index],
        source.class_names,
        triplets_of(labels, config.seed),
        lambda positions: pixels(source.images, index[positions]),
        roles_of(source, index, config.evaluation),
        unseen,
    )


def triplets_of(labels: np.ndarray, seed: int) -> np.ndarray:
    """Triplets [T, 3] of positions in ``labels`` [N], as those of any test part are drawn; images of classes that have
    no other image are in none."""
    _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    paired = np.flatnonzero((counts[of_class] > 1) & (labels != NO_CLASS))
    if len(np.unique(labels[paired])) < 2:
        return np.empty((0, 3), dtype=np.int64)
    return paired[draw_triplets(labels[paired], None, generator(seed, "test triplets"))]


def measured(
    part: Part,
    settings: Evaluation,
    threshold: float | None,
    chosen: Values | None = None,
    progress: Callable[[str, int], Callable[[int], None]] = How.progress,
) -> Measured:
    """Everything there is to measure on ``part``; ``chosen`` are thresholds of another."""
    found_by = dataclasses.replace(how(settings, threshold), chosen=chosen, over_classes=part.unseen, progress=progress)
    points = points_of(part.triplets, settings)
    return measure(part.embeddings, part.labels, part.triplets, len(part.class_names), found_by, part.roles, points)


def how(settings: Evaluation, threshold: float | None) -> How:
    """How ``settings`` have it measured; ``threshold`` is the distance that accuracy is measured at."""
    return How(
        coverage=settings.coverage,
        threshold=threshold,
        spread_images=settings.spread_images,
        most_classes=settings.most_classes,
        most_images=settings.most_images,
        resamples=settings.resamples,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )


def points_of(triplets: np.ndarray, settings: Evaluation) -> np.ndarray | None:
    """The images that classes are described by, positions; None is all."""
    return np.unique(triplets[:, 0]) if settings.points == "anchors" and len(triplets) else None


def roles_of(source: LabelledImages, index: np.ndarray, settings: Evaluation) -> Roles | None:
    """Who looks for whom among the images at ``index``: as the source says, or everyone for all others.

    Raises:
        ConfigError: where images of one group are to be passed over and there are no groups.
    """
    roles = np.full(len(index), "") if source.roles is None else source.roles[index]
    if settings.exclude_same_group and source.groups is None:
        raise ConfigError(
            "evaluation.exclude_same_group=true: expected data.group, which says what belongs together; found null"
        )
    if not settings.exclude_same_group and not (roles != "").any():
        return None
    groups = None
    if settings.exclude_same_group and source.groups is not None:
        groups = np.unique(source.groups[index], return_inverse=True)[1]
    return Roles(np.flatnonzero(roles != "gallery"), np.flatnonzero(roles != "query"), groups)


def evaluate_part(
    run: RunDirectory, part: Part, settings: Evaluation, threshold: float | None, chosen: Values | None = None
) -> Measured:
    """Measure ``part`` and write its arrays."""
    log.info("measuring %s images of %s", f"{len(part.labels):,}", part.name)
    with measuring() as progress:
        found = measured(part, settings, threshold, chosen, progress)
    run.arrays(
        part.name,
        embeddings=part.embeddings,
        labels=part.labels,
        ids=part.ids,
        class_names=np.array(part.class_names, dtype=str),
        triplets=part.triplets,
    )
    if part.told is not None:
        logits = {} if part.told.logits is None else {"logits": part.told.logits}
        run.arrays(f"logits_{part.name}", classes=part.told.classes, predicted=part.told.predicted, **logits)
    for name, arrays in found.arrays.items():
        run.arrays(f"{name}_{part.name}", **arrays)
    if problem(part.embeddings, part.labels) is None:
        for name, shown in pictures(part, found).items():
            run.arrays(f"{name}_{part.name}", **shown)
    return found


def part_entries(part: Part, values: Values, found: Measured, epoch: int) -> Entries:
    """``values``, which were ``found`` on ``part`` or before, as entries of summary.json: accuracy with its threshold,
    and what has an interval with that, and what was drawn for it."""
    prefix = PREFIXES[part.name]
    entries = {f"{prefix}/{name}": entry(value, part.name, epoch, direction(name)) for name, value in values.items()}
    entries[f"{prefix}/accuracy"]["threshold"] = found.threshold
    for name, interval in found.intervals.items():
        over = "classes" if part.unseen else "images"
        entries[f"{prefix}/{name}"] |= {"interval": list(interval), "interval_over": over}
    return entries


def said_of(part: Part, found: Measured) -> Iterator[str]:
    """In words, what a table of numbers does not say: the classes nearest to each other, and why values
    are undefined."""
    names = part.class_names
    if found.counts:
        counted = (f"{count:,} {what.replace('_', ' ')}" for what, count in found.counts.items() if count)
        yield f"{part.name}: {', '.join(counted)}"
    if found.confused:
        pairs = (f"{names[pair.one]} and {names[pair.other]} {pair.distance:.3f}" for pair in found.confused)
        yield f"{part.name}: the classes nearest to each other: {', '.join(pairs)}"
        pairs = (f"{names[pair.one]} and {names[pair.other]} {pair.distance:.3f}" for pair in found.separated)
        yield f"{part.name}: the classes farthest from each other: {', '.join(pairs)}"
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
