"""The last thing a run or an evaluation says: a table of its results and where they are."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from siamese.runs.directory import RunDirectory

log = logging.getLogger(__name__)

# Metrics that begin a group of their own.
GROUPS = ("auc", "pairs_auc", "recall_at_1", "linear_probe", "intra_distance", "alignment", "ellipse_area_mean")
PARTS = {"val": "validation", "test": "test"}


def results_table(
    path: Path, summary: Mapping[str, Mapping[str, Any]], checkpoint: str, notes: Sequence[str] = ()
) -> None:
    """Log the metrics of ``checkpoint`` on the parts that ``summary`` has, each class's apart from the
    others' left to summary.json, then ``notes`` and the ``path`` that everything was written to."""
    shown = [prefix for prefix in PARTS if any(name.startswith(f"{prefix}/") for name in summary)]
    epoch = next(entry["epoch"] for name, entry in summary.items() if name.startswith(f"{shown[-1]}/"))
    table = Table(title=f"{checkpoint} checkpoint, epoch {epoch}", title_justify="left")
    table.add_column("metric")
    for prefix in shown:
        table.add_column(PARTS[prefix], justify="right")
    names = dict.fromkeys(name.partition("/")[2] for p in shown for name in summary if name.startswith(f"{p}/"))
    for name in names:
        if "/" in name:
            continue
        if name in GROUPS and table.row_count:
            table.add_section()
        table.add_row(name, *(_cell(summary.get(f"{prefix}/{name}")) for prefix in shown))
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    log.info("%s", text.getvalue().rstrip())
    for note in notes:
        log.info("%s", note)
    log.info("figures, arrays and summary.json are in %s", path)


def draw(source: Path, run: RunDirectory, format: str, also: Callable[[str, Path, Any], None] | None = None) -> int:
    """Draw every figure that ``source`` holds the numbers of into ``run``; how many there were. Each is
    handed to ``also`` with its name and its file."""
    from siamese import figures

    count = 0
    for name, figure in figures.from_arrays(source):
        path = run.figure(name, figure, format)
        if also is not None:
            also(name, path, figure)
        count += 1
    return count


def _cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return ""
    return "undefined" if entry["value"] is None else f"{entry['value']:.4f}"
