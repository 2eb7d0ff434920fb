"""What a run or an evaluation says at its end: its results, and where they are."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from siamese.config.schema import Config
from siamese.config.trust import resume_words
from siamese.config.words import pasteable
from siamese.errors import RunError
from siamese.paths import near, shown
from siamese.runs.bounds import one_line
from siamese.runs.clock import span
from siamese.runs.directory import RunDirectory

log = logging.getLogger(__name__)

# Metrics that begin a group of their own.
GROUPS = (
    "auc",
    "folds_accuracy",
    "threshold_at_eer",
    "good_triplets",
    "pairs_auc",
    "class_accuracy",
    "recall_at_1",
    "linear_probe",
    "intra_distance",
    "alignment",
    "ellipse_area_mean",
    "far_at_threshold_eer",
    "tar_at_threshold_eer",
    "mean_average_precision",
)
PARTS = {"val": "validation", "test": "test"}
HEADLINE = ("auc", "recall_at_1", "map_at_r")
WITHOUT_CLASSES = ("view_recall_at_1", "view_recall_at_5", "view_mrr")
FILE_ONLY = {"terminal": False}  # of a record that the terminal leaves to train.log


def results_table(summary: Mapping[str, Mapping[str, Any]], checkpoint: str, *, of_epochs: bool = True) -> str:
    """The metrics of ``checkpoint`` on the parts that ``summary`` has, as text of 80 columns; those of single classes,
    which runs of earlier versions have in summary.json, are left out. The last part has its intervals beside the
    values. What is ``of_epochs`` no more than a file is named as it is."""
    shown = [prefix for prefix in PARTS if any(name.startswith(f"{prefix}/") for name in summary)]
    epoch = next(entry["epoch"] for name, entry in summary.items() if name.startswith(f"{shown[-1]}/"))
    title = f"{checkpoint} checkpoint, epoch {epoch}" if of_epochs else checkpoint
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for prefix in shown:
        table.add_column(PARTS[prefix], justify="right")
    last = [entry for name, entry in summary.items() if name.startswith(f"{shown[-1]}/")]
    over = dict.fromkeys(str(entry["interval_over"]) for entry in last if "interval" in entry)
    if over:
        table.add_column("95 % interval")
    names = dict.fromkeys(name.partition("/")[2] for p in shown for name in summary if name.startswith(f"{p}/"))
    for name in names:
        if "/" in name:
            continue
        if name in GROUPS and table.row_count:
            table.add_section()
        cells = [_cell(summary.get(f"{prefix}/{name}")) for prefix in shown]
        table.add_row(name, *cells, *[_interval(summary.get(f"{shown[-1]}/{name}"))] * bool(over))
    if over:
        table.caption = f"[ ]: {PARTS[shown[-1]]}, by the bootstrap over {' or '.join(over)}"
        table.caption_justify = "left"
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    return text.getvalue().rstrip()


def tell(
    summary: Mapping[str, Mapping[str, Any]],
    run: RunDirectory,
    config: Config,
    notes: Sequence[str],
    *,
    further: bool = True,
) -> None:
    """The last thing that a run says: what its best checkpoint is worth, and what to type next; ``further``: to train
    it further too. The whole table and ``notes`` go to train.log alone."""
    log.info("%s", results_table(summary, "best"), extra=FILE_ONLY)
    for note in notes:
        log.info("%s", note, extra=FILE_ONLY)
    rows = run.history()
    epochs = int(rows[-1]["epoch"]) if rows else config.trainer.max_epochs
    seconds = math.fsum(float(row["seconds"]) for row in rows if row.get("seconds"))
    headline = WITHOUT_CLASSES if "val/view_recall_at_1" in summary else HEADLINE
    monitored = config.callbacks.monitor or f"val/{headline[0]}"
    best = summary[monitored]["epoch"]
    log.info("best epoch %d of %d, by %s, after %s of training", best, epochs, monitored, span(seconds))
    log.info("  %-16s %10s %8s", "", "validation", "test")
    for name in dict.fromkeys((monitored.removeprefix("val/"), *headline)):
        log.info("  %-16s %10s %8s", name, *(_cell(summary.get(f"{prefix}/{name}")) for prefix in PARTS))
    evaluate, compare, train = (shown(command) for command in ("evaluate", "compare", "train"))
    path, planned = near(run.path), config.trainer.max_epochs
    more: list[tuple[str, object]] = [("trainer.max_epochs", 2 * planned)] * (epochs == planned)
    if config.callbacks.patience is not None:  # which might end it again at once
        more.append(("callbacks.patience", "null"))
    drawn = (run.path / "figures").exists()
    log.info("%s are in %s; next:", *(("pictures", path / "figures") if drawn else ("results", path)))
    log.info("  %s %s --table  # every measure", evaluate, pasteable(path))
    if not drawn:
        log.info("  %s %s --figures-only  # pictures", evaluate, pasteable(path))
    log.info("  %s %s OTHER_RUN  # what differs", compare, pasteable(path))
    if further:
        log.info("  %s %s  # train further", train, pasteable(*resume_words(run.path, config), *more))


def draw(
    source: Path, run: RunDirectory, format: str, also: Callable[[str, Path, Any], None] | None = None
) -> tuple[int, list[str]]:
    """Draw every figure that ``source`` holds the numbers of into ``run``, one by one. Each is handed to ``also`` with
    its name and its file. One that cannot be drawn costs a line of the log.

    Returns:
        How many were drawn, and the names of those that could not be.
    """
    from siamese import figures

    count, failed = 0, []
    for name, make in figures.drawings(source):
        try:
            figure = make()
            path = run.figure(name, figure, format)
            if also is not None:
                also(name, path, figure)
            figure.clear()  # its parts refer to each other, and would stay until they are looked for
        except Exception as error:  # a picture is never worth a result
            kind = "" if isinstance(error, RunError) else f"{type(error).__name__}: "
            log.warning("figures: %s could not be drawn (%s%s)", name, kind, one_line(error))
            failed.append(name)
        else:
            count += 1
    return count, failed


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    return "undefined" if entry["value"] is None else f"{entry['value']:.4f}"


def _interval(entry: Mapping[str, Any] | None) -> str:
    if entry is None or entry["value"] is None or "interval" not in entry:
        return ""
    low, high = entry["interval"]
    return f"[{low:.3f}, {high:.3f}]"
