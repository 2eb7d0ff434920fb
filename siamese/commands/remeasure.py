"""What scripts/evaluate.py measures: a checkpoint of a run, on its own images or on others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siamese.config.schema import Config
from siamese.runs.checkpoint import restore
from siamese.runs.directory import RunDirectory
from siamese.runs.read import read_evaluation, read_per_class, read_summary

if TYPE_CHECKING:
    from siamese.data import LabelledImages
    from siamese.evaluator.measured import Entries


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        epoch: of the checkpoint.
        entries: of summary.json.
        notes: what there is to say besides.
        images: how many of each part.
        classes: that these are of.
        kept: entries of the same checkpoint that were there before.
    """

    epoch: int
    entries: Entries
    notes: list[str]
    images: dict[str, int]
    classes: int
    kept: Entries = field(default_factory=dict)


def on_own(
    checkpoint: Path, parts: Sequence[str], out: RunDirectory, run_id: str, config: Config, source: LabelledImages
) -> Found:
    """Measure ``parts`` of the run's own images, as the end of its training does."""
    from siamese.evaluator.measured import evaluate
    from siamese.training.build import build, make_trainer, split_data
    from siamese.training.parts import embedded_parts

    kept = read_summary(out.path) if (out.path / "summary.json").exists() else {}
    rows, before = read_per_class(out.path), read_evaluation(out.path)
    data = split_data(config, source)
    module = build(config, data)
    epoch = restore(module, checkpoint, run_id=run_id)
    if before is not None and before["epoch"] != epoch:
        kept, rows = {}, []  # the checkpoint has moved on
    threshold = None
    if parts == ["test"]:  # the distance that was the best on validation
        accuracy = kept.get("val/accuracy", {})
        threshold = accuracy.get("threshold") if accuracy.get("epoch") == epoch else None
    embedded = embedded_parts(module, data, make_trainer(config, out.path, []), parts)
    entries, notes = evaluate(out, embedded, config.evaluation, epoch, threshold, rows)
    images = {part: len(data.parts[part]) for part in parts}
    labels = source.labels.numpy()[np.concatenate([data.parts[part] for part in parts])]
    return Found(epoch, entries, notes, images, len(np.unique(labels[labels >= 0])), kept)


def on_other(checkpoint: Path, out: RunDirectory, run_id: str, config: Config, source: LabelledImages) -> Found:
    """Measure the test part of other images, or all of them, by their embeddings alone."""
    from siamese.evaluator.measured import class_rows, embed, evaluate_part, part_entries, said_of, write_classes
    from siamese.training.build import build_net

    net = build_net(config, mean=[0.5] * 3, std=[0.5] * 3)  # both are in the checkpoint
    epoch = restore(net, checkpoint, prefix="net.", run_id=run_id)
    part = embed(net, source, config)
    found = evaluate_part(out, part, config.evaluation, config.evaluation.distance_threshold)
    write_classes(out, class_rows(part, found))
    entries = part_entries(part.name, found.values, epoch, found.threshold)
    classes = len(np.unique(part.labels[part.labels >= 0]))
    return Found(epoch, entries, list(said_of(part, found)), {part.name: len(part.labels)}, classes)
