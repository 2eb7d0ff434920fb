"""What scripts/evaluate.py measures: a checkpoint of a run, on its own images or on others."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from siamese.config.schema import Config
from siamese.runs.checkpoint import restore
from siamese.runs.directory import RunDirectory
from siamese.runs.read import read_summary
from siamese.runs.tables import read_evaluation, read_failures, read_per_class

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
    from siamese.evaluator.measured import chosen_in, evaluate
    from siamese.evaluator.tables import Kept
    from siamese.training.build import build, make_trainer, split_data
    from siamese.training.parts import embedded_parts

    kept = read_summary(out.path) if (out.path / "summary.json").exists() else {}
    tables, before = Kept(read_per_class(out.path), read_failures(out.path)), read_evaluation(out.path)
    data = split_data(config, source)
    module = build(config, data)
    epoch = restore(module, checkpoint, run_id=run_id)
    if before is not None and before["epoch"] != epoch:
        kept, tables = {}, Kept()  # the checkpoint has moved on
    threshold = chosen = None
    accuracy = kept.get("val/accuracy", {})
    if parts == ["test"] and accuracy.get("epoch") == epoch:  # distances that were the best on validation
        threshold, chosen = accuracy.get("threshold"), chosen_in(kept)
    embedded = embedded_parts(module, data, make_trainer(config, out.path, []), config.evaluation, parts)
    entries, notes = evaluate(out, embedded, config.evaluation, epoch, threshold, chosen, tables)
    images = {part: len(data.parts[part]) for part in parts}
    labels = source.labels.numpy()[np.concatenate([data.parts[part] for part in parts])]
    return Found(epoch, entries, notes, images, len(np.unique(labels[labels >= 0])), kept)


def on_other(
    checkpoint: Path,
    out: RunDirectory,
    run_id: str,
    config: Config,
    source: LabelledImages,
    trained_on: Set[str],
) -> Found:
    """Measure the test part of other images, or all of them, by their embeddings alone. ``trained_on`` are the classes
    of the run's own images."""
    from siamese.evaluator.measured import embed, evaluate_part, part_entries, said_of
    from siamese.evaluator.tables import class_rows, failure_rows, write_table
    from siamese.training.restored import restored_net

    net, epoch = restored_net(config, checkpoint, run_id)
    part = embed(net, source, config, unseen=trained_on.isdisjoint(source.class_names))
    found = evaluate_part(out, part, config.evaluation, config.evaluation.distance_threshold)
    write_table(out, "per_class", class_rows(part, found))
    write_table(out, "failures", list(failure_rows(part, found)))
    entries = part_entries(part, found.values, found, epoch)
    classes = len(np.unique(part.labels[part.labels >= 0]))
    return Found(epoch, entries, list(said_of(part, found)), {part.name: len(part.labels)}, classes)
