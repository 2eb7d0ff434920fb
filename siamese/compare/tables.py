"""A comparison as tables: CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from siamese.compare.budgets import Budgets
from siamese.compare.comparison import Comparison
from siamese.compare.differences import Difference
from siamese.compare.grouping import shown
from siamese.compare.metrics import run_measures
from siamese.compare.settings import settings_of
from siamese.compare.wording import (
    difference_text,
    margin_text,
    mean_and_interval,
    method,
    p_value,
)


def runs_rows(c: Comparison) -> Iterator[dict[str, Any]]:
    """One row a run: its group, the keys that vary, and every metric of its summary."""
    metrics = run_measures(c.runs)
    keys = list(dict.fromkeys([*c.options.pair_by, *c.keys, *c.varying]))
    for group in c.groups:
        for run in group.members:
            settings = settings_of(run)
            yield {
                "run": run.name,
                "group": group.number,
                "effective_batch": settings["effective_batch"],
                **{k: _plain(settings.get(k)) for k in keys},
                "git_sha": settings["git_sha"],
                **{m: run.metric(m) for m in metrics},
                "path": str(run.path),
            }


def groups_rows(c: Comparison) -> Iterator[dict[str, Any]]:
    """One row a group and metric."""
    for group in c.groups:
        for metric in c.metrics:
            cell = c.cells.get((group.number, metric.name))
            yield {
                "group": group.number,
                "label": group.label,
                "effective_batch": group.effective_batch,
                **{k: _plain(v) for k, v in group.settings.items()},
                "metric": metric.name,
                "n": cell.n if cell else 0,
                "mean": cell.mean if cell else None,
                "low_95": cell.low if cell else None,
                "high_95": cell.high if cell else None,
            }


def tests_rows(c: Comparison) -> Iterator[dict[str, Any]]:
    """One row a comparison, with every number behind its verdict. On log_ratio, differences are of logarithms."""
    return map(_tested, c.differences)


def budgets_rows(found: Iterable[Budgets]) -> Iterator[dict[str, Any]]:
    """One row a measure of validation images, number of epochs and group: the columns of :func:`tests_rows`."""
    for budget in found:
        for epoch in budget.epochs:
            for d in budget.differences[epoch]:
                yield {"epochs": epoch, **_tested(d)}


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """RFC 4180, numbers in full precision, an empty field for none."""
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["empty"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_markdown(c: Comparison) -> str:
    """Groups × metrics and the differences, as they go into a README."""
    head = ["group", "effective batch", *(m.name for m in c.metrics)]
    of = c.options.evaluation
    lines = [] if of is None else [f"Measured on the evaluation {_escaped(of)} of each run.", ""]
    lines += [_md(head), _md(["---", "---:", *("---:" for _ in c.metrics)])]
    lines += [_md(row) for row in _group_cells(c)]
    if c.differences:
        lines += ["", _md(["metric", "group", "against", "n", "difference [95 %]", "p (Holm)", "margin", "verdict"])]
        lines += [_md(["---", "---", "---", "---:", "---:", "---:", "---:", "---"])]
        lines += [_md(row) for row in _difference_cells(c)]
        lines += ["", method(c)]
    return "\n".join(lines) + "\n"


def as_latex(c: Comparison) -> str:
    """The same two tables for a paper (needs booktabs)."""

    def table(columns: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
        body = [" & ".join(map(_tex, row)) + r" \\" for row in rows]
        top = " & ".join(map(_tex, head)) + r" \\"
        return [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            top,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]

    metrics = [m.name for m in c.metrics]
    lines = table("lr" + "r" * len(metrics), ["group", "effective batch", *metrics], _group_cells(c))
    if c.differences:
        head = ["metric", "group", "against", "n", "difference [95 %]", "p (Holm)", "margin", "verdict"]
        lines += ["", *table("lllrrrrl", head, _difference_cells(c))]
    return "\n".join(lines) + "\n"


def _tested(d: Difference) -> dict[str, Any]:
    low, high = d.interval or (None, None)
    low_90, high_90 = d.interval_90 or (None, None)
    low_bca, high_bca = d.bca or (None, None)
    return {
        "metric": d.metric.name,
        "group": d.group.number,
        "label": d.group.label,
        "baseline": d.baseline.number,
        "baseline_label": d.baseline.label,
        "n": d.n,
        "scale": d.scale,
        "difference": d.mean,
        "low_95": low,
        "high_95": high,
        "low_90": low_90,
        "high_90": high_90,
        "low_95_bca": low_bca,
        "high_95_bca": high_bca,
        "p_t": d.p_t,
        "p_sign_flip": d.p_sign_flip,
        "sign_flip": None if d.p_sign_flip is None else "exact" if d.sign_flip_exact else "drawn",
        "p_holm": d.p_holm,
        "family": d.family,
        "p_wilcoxon": d.p_wilcoxon,
        "hedges_gz": d.effect,
        "margin": d.metric.margin.size if d.metric.margin else None,
        "p_tost": d.p_tost,
        "p_tost_flip": d.p_tost_flip,
        "p_tost_holm": d.p_tost_holm,
        "seeds_needed": d.seeds_needed,
        "verdict": str(d.verdict) if d.verdict else None,
        "decided_by": d.decided_by,
        "says": d.says,
    }


def _group_cells(c: Comparison) -> Iterator[list[str]]:
    for g in c.groups:
        cells = (mean_and_interval(c.cells.get((g.number, m.name))) for m in c.metrics)
        yield [g.label, shown(g.effective_batch or "mixed"), *cells]


def _difference_cells(c: Comparison) -> Iterator[list[str]]:
    for d in c.differences:
        labels = [d.metric.name, d.group.label, d.baseline.label, str(d.n)]
        yield [*labels, difference_text(d), p_value(d.p_holm), margin_text(d.metric), d.says]


def _md(cells: Sequence[str]) -> str:
    safe = (_escaped(cell) if set(cell) - set("-:") else cell for cell in cells)
    return "| " + " | ".join(" ".join(cell.split()) for cell in safe) + " |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", text)


def _tex(text: str) -> str:
    special = {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "−": "$-$",
        "<": "$<$",
        ">": "$>$",
        "—": "---",
    }
    return "".join(special.get(ch, f"\\{ch}" if ch in "&%$#_{}" else ch) for ch in " ".join(text.split()))


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) and not isinstance(value, bool) else shown(value)
