"""The files of a comparison, each replaced whole."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamese.compare import page, tables, wording
from siamese.compare.budgets import Budgets
from siamese.compare.comparison import Comparison
from siamese.compare.grouping import shown
from siamese.compare.standalone import standalone
from siamese.errors import ConfigError, nearest
from siamese.runs.files import atomic, write_json
from siamese.runs.find import MARKS

REPORT_VERSION = 2


def default_out(first: Path) -> Path:
    """Beside the first directory: ``outputs/sweeps/NAME.comparison``."""
    whole = Path(first).resolve()
    return first.parent / f"{first.name}.comparison" if first.name else whole.with_name(f"{whole.name}.comparison")


def check_out(out: Path) -> None:
    """Refuse a place that is no folder or belongs to a run.

    Raises:
        ConfigError: for either.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, found a file")
    for folder in (out.resolve(), *out.resolve().parents):
        if any((folder / mark).exists() for mark in MARKS):
            raise ConfigError(f"--out {out}: {folder} is a run directory, and only its run writes into it")


def check_heatmap(c: Comparison, keys: Sequence[str]) -> None:
    """Refuse a heatmap over a key that no group is made by.

    Raises:
        ConfigError: naming those that are.
    """
    for key in keys:
        if key not in [*c.keys, "effective_batch"]:
            names = ", ".join(c.keys) or "none does"
            raise ConfigError(f"--heatmap {key}: expected a key that varies ({names}){nearest(key, c.keys)}")


def write(
    c: Comparison, out: Path, heatmap: Sequence[str], words: Sequence[str], paper: bool = False
) -> tuple[list[str], set[str]]:
    """Write every file of a comparison into ``out``, figures for a ``paper`` too where these are asked for; return the
    names of the files, and the letters that no font has for a paper.

    Raises:
        RunError: when a file cannot be written.
    """
    created = time.strftime("%Y-%m-%d %H:%M %z")
    if paper:
        from siamese.compare.paper import as_paper  # slow to import
    drawn = page.draw(c, heatmap)
    texts = {
        "runs.csv": tables.as_csv(tables.runs_rows(c)),
        "groups.csv": tables.as_csv(tables.groups_rows(c)),
        "tests.csv": tables.as_csv(tables.tests_rows(c)),
        "budgets.csv": tables.as_csv(tables.budgets_rows(drawn.budgets)),
        "table.md": tables.as_markdown(c),
        "table.tex": tables.as_latex(c),
    }
    tables_written = list(texts)
    for name, text in texts.items():
        with atomic(out / name) as file:
            file.write(text.encode("utf-8", "replace"))
    write_json(out / "report.json", as_json(c, drawn.budgets, words, created))
    figures: dict[str, bytes] = {}
    boxes: set[str] = set()
    for figure in drawn.figures():
        figures[f"{figure.slug}.svg"] = standalone(figure).encode("utf-8", "replace")
        if paper:
            files, without = as_paper(figure)
            figures |= {f"{figure.slug}.{suffix}": content for suffix, content in files.items()}
            boxes |= without
    rendered = page.render(c, drawn, words, created).encode("utf-8", "replace")
    contents = {f"figures/{name}": content for name, content in figures.items()} | {"report.html": rendered}
    for name, content in contents.items():
        with atomic(out / name) as file:
            file.write(content)
    for old in (out / "figures").glob("*"):  # of an earlier comparison in the same place
        if old.suffix in (".svg", ".png", ".pdf") and old.name not in figures:
            old.unlink()
    return ["report.html", *tables_written, "report.json", *["figures/"] * bool(figures)], boxes


def as_json(c: Comparison, over: Sequence[Budgets], words: Sequence[str], created: str) -> dict[str, Any]:
    """Everything a comparison holds, for programs."""
    return {
        "schema_version": REPORT_VERSION,
        "created": created,
        "command": ["compare.py", *words],
        "evaluation": c.options.evaluation,
        "inputs": [str(path) for path in c.inputs],
        "method": wording.method(c),
        "warnings": c.warnings,
        "left_out": [{"path": str(r.path), "state": r.state, "reason": r.reason} for r in c.left_out],
        "varying": c.varying,
        "constant": c.constant,
        "metrics": [
            {
                "name": m.name,
                "direction": m.direction,
                "batch_dependent": m.batch_dependent,
                "scale": m.margin.scale if m.margin else None,
                "margin": m.margin.size if m.margin else None,
            }
            for m in c.metrics
        ],
        "groups": [
            {
                "group": g.number,
                "label": g.label,
                "settings": json.loads(json.dumps(g.settings, default=shown)),
                "effective_batch": g.effective_batch,
                "runs": [str(run.path) for run in g.members],
            }
            for g in c.groups
        ],
        "cells": list(tables.groups_rows(c)),
        "tests": list(tables.tests_rows(c)),
        "budgets": list(tables.budgets_rows(over)),
    }
