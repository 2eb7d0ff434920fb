"""The evaluation of embedded images: everything there is to measure, as arrays and entries of summary.json."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from siamese.config.schema import Config, Evaluation
from siamese.data import LabelledImages, draw_triplets
from siamese.data.draws import generator
from siamese.data.images import NO_CLASS, pixels
from siamese.evaluation.blocks import problem
from siamese.evaluation.measure import Measured, measure
from siamese.evaluation.names import Undefined, Values, direction
from siamese.evaluator.part import Part, gallery, hardest
from siamese.runs.directory import RunDirectory

log = logging.getLogger(__name__)

PREFIXES = {"validation": "val", "test": "test"}

Entries = dict[str, dict[str, Any]]
Rows = Sequence[dict[str, str]]


def evaluate(
    run: RunDirectory,
    parts: Iterable[tuple[Part, Values]],
    settings: Evaluation,
    epoch: int,
    threshold: float | None = None,
    kept: Rows = (),
) -> tuple[Entries, list[str]]:
    """Measure ``parts``, embedded with the weights of ``epoch``, and write their arrays and per_class.csv.

    Args:
        parts: each with what was measured on it already, its losses.
        threshold: the distance that accuracies are measured at, where ``settings`` have none; None
            takes the best for the first of the parts.
        kept: rows of per_class.csv that were there before; those of other parts stay.

    Returns:
        The entries of summary.json, and what there is to say besides.
    """
    entries: Entries = {}
    notes: list[str] = []
    rows: list[dict[str, str]] = []
    threshold = settings.distance_threshold or threshold
    for part, known in parts:
        found = evaluate_part(run, part, settings, threshold)
        threshold = found.threshold
        losses: Values = {name: value for name, value in known.items() if name not in found.values}
        entries |= part_entries(part.name, losses | found.values, epoch, threshold)
        notes += said_of(part, found)
        rows += class_rows(part, found)
    measured = {part for part, prefix in PREFIXES.items() if f"{prefix}/accuracy" in entries}
    write_classes(run, [*(row for row in kept if row["part"] not in measured), *rows])
    return entries, notes


def class_rows(part: Part, found: Measured) -> list[dict[str, str]]:
    """The rows of per_class.csv of ``part``: its classes, how many images each has, and what was measured of it."""
    counts = np.bincount(part.labels[part.labels >= 0], minlength=len(part.class_names))
    return [
        {"part": part.name, "class": name, "images": str(counts[label])}
        | {column: _number(of_classes[label].item()) for column, of_classes in found.per_class.items()}
        for label, name in enumerate(part.class_names)
    ]


def write_classes(run: RunDirectory, rows: Rows) -> None:
    """Write per_class.csv, validation before test; what was measured of one part alone is empty in the others. Images
    without classes have none."""
    columns = dict.fromkeys(column for row in rows for column in row)
    ordered = sorted(rows, key=lambda row: list(PREFIXES).index(row["part"]))
    if rows:
        run.table("per_class", [{column: row.get(column, "") for column in columns} for row in ordered])


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
    _, of_class, counts = np.unique(labels, return_inverse=True, return_counts=True)
    paired = np.flatnonzero((counts[of_class] > 1) & (labels != NO_CLASS))
    triplets = np.empty((0, 3), dtype=np.int64)
    if len(np.unique(labels[paired])) > 1:
        random = generator(config.seed, "test triplets")
        triplets = paired[draw_triplets(labels[paired], None, random)]
    return Part(
        "test",
        embeddings.numpy(),
        labels,
        source.ids[index],
        source.class_names,
        triplets,
        lambda positions: pixels(source.images, index[positions]),
    )


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
        class_names=np.array(part.class_names, dtype=str),
        triplets=part.triplets,
    )
    for name, arrays in found.arrays.items():
        covered = {"coverage": settings.coverage} if name == "projection" else {}  # which a figure says
        run.arrays(f"{name}_{part.name}", **arrays, **covered)
    if part.class_names and problem(part.embeddings, part.labels) is None:
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


def _number(value: float) -> str:
    """As per_class.csv has it: empty where there is none."""
    return repr(value) if math.isfinite(value) else ""
