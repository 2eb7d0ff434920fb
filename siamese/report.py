"""The last thing a run says: a table of its results and where they are."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from siamese.artifacts import RunDirectory

log = logging.getLogger(__name__)


def results_table(run: RunDirectory, summary: Mapping[str, Mapping[str, Any]]) -> None:
    """Log the metrics of the best checkpoint on validation and test images, and the paths written."""
    epoch = next(entry["epoch"] for name, entry in summary.items() if name.startswith("test/"))
    table = Table(title=f"best checkpoint, epoch {epoch}", title_justify="left")
    table.add_column("metric")
    table.add_column("validation", justify="right")
    table.add_column("test", justify="right")
    for name in (n.removeprefix("test/") for n in summary if n.startswith("test/")):
        cells = [summary.get(f"{prefix}/{name}", {}).get("value") for prefix in ("val", "test")]
        table.add_row(name, *("" if c is None else f"{c:.4f}" for c in cells))
    text = io.StringIO()
    Console(file=text, width=80).print(table)
    log.info("%s", text.getvalue().rstrip())
    log.info("figures, arrays, checkpoints and summary.json are in %s", run.path)
