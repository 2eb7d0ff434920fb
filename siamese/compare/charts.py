"""The drawings of a comparison's numbers: intervals, heatmap, metric curves, ROC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from siamese.compare.comparison import Comparison
from siamese.compare.differences import Cell, Difference
from siamese.compare.figure import Figure, colour, legend
from siamese.compare.grouping import ABSENT, Group, canonical, order, short_names, value_names
from siamese.compare.metrics import Metric
from siamese.compare.rounding import rounded
from siamese.compare.statistics import LEAST_SEEDS, t_intervals
from siamese.compare.svg import HEIGHT, WIDTH, Axes, Drawing, element, short
from siamese.compare.wording import number
from siamese.runs.run import Run

MOST_POINTS = 80  # of a curve
X_AXES = {"epoch": "epoch", "step": "optimizer steps", "images": "images seen"}
STRIP = 200.0  # width of an interval's drawing before it is stretched to its column


# -- intervals in tables -----------------------------------------------------------------------


def difference_strip(d: Difference, extent: tuple[float, float]) -> Markup:
    """An interval over the margin on the range ``extent``; stretched by the page, so made of lines only."""
    if d.mean is None:
        return Markup("")
    low, high = extent

    def x(value: float) -> str:
        return short(STRIP * (value - low) / (high - low))

    parts = []
    if d.metric.margin:
        bound = d.metric.margin.bound
        width = short(STRIP * 2 * bound / (high - low))
        parts.append(element("rect", x=x(-bound), y=0, width=width, height=24, css="margin"))
    parts.append(element("path", d=f"M{x(0)} 0V24", css="zero"))
    if d.interval:
        left, right = map(x, d.interval)
        parts.append(element("path", d=f"M{left} 12H{right}M{left} 8V16M{right} 8V16", css="interval"))
    parts.append(element("path", d=f"M{x(d.mean)} 12h0", css="point"))
    return _strip(parts, f"difference {d.says}")


def difference_extent(differences: Sequence[Difference]) -> tuple[float, float]:
    """The range that shows zero, all intervals of one metric and its margin."""
    ends = [v for d in differences for v in (0.0, *(d.interval or ()), d.mean or 0.0)]
    ends += [side * d.metric.margin.bound for d in differences if d.metric.margin for side in (-1, 1)]
    low, high = min(ends, default=-1.0), max(ends, default=1.0)
    pad = 0.06 * (high - low) or 1.0
    return low - pad, high + pad


def values_strip(c: Comparison, group: Group, metric: Metric) -> Markup:
    """Every seed's value, and the mean with its interval, on the range of all groups."""
    cell = c.cells.get((group.number, metric.name))
    if cell is None:
        return Markup("")
    everything = [v for g in c.groups if (other := c.cells.get((g.number, metric.name))) for v in _extent(other)]
    low, high = min(everything), max(everything)
    span = (high - low) or 1.0

    def x(value: float) -> str:
        return short(6 + (STRIP - 12) * (value - low) / span)

    parts = []
    if cell.low is not None and cell.high is not None:
        parts.append(element("path", d=f"M{x(cell.low)} 12H{x(cell.high)}", css="interval"))
    parts.append(element("path", d="".join(f"M{x(v)} 12h0" for v in cell.values.values()), css="seed"))
    parts.append(element("path", d=f"M{x(cell.mean)} 5V19", css="mean"))
    return _strip(parts, f"{metric.name} of each seed")


def _strip(parts: Sequence[Markup], label: str) -> Markup:
    return element(
        "svg",
        Markup("").join(parts),
        css="strip",
        viewBox=f"0 0 {short(STRIP)} 24",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def _extent(cell: Any) -> list[float]:
    return [v for v in (*cell.values.values(), cell.low, cell.high) if v is not None]


# -- heatmap -----------------------------------------------------------------------------------


def heatmap_keys(c: Comparison, asked: Sequence[str]) -> tuple[str, str] | None:
    """The two keys of the heatmap: those asked for, or of those that vary the two with most values that do not
    follow from one another (else the first two)."""
    if len(asked) == 2:
        return asked[0], asked[1]

    def values(keys: Sequence[str]) -> int:
        return len({tuple(canonical(g.settings[k]) for k in keys) for g in c.groups})

    pairs = [(a, b) for i, a in enumerate(c.named) for b in c.named[i + 1 :]]
    return max(pairs, key=lambda p: (values(p), min(values(p[:1]), values(p[1:]))), default=None)


def heatmap(c: Comparison, metric: Metric, keys: tuple[str, str]) -> Figure:
    """Mean, interval and n of every cell; where groups share a cell (other keys vary too), one line each."""

    def values(key: str) -> list[Any]:
        found = {canonical(v): v for g in c.groups for v in [_setting(g, key)]}
        return sorted(found.values(), key=order)

    rows, columns = values(keys[0]), values(keys[1])
    shared: dict[tuple[str, str], list[Group]] = {}
    for group in c.groups:
        shared.setdefault((canonical(_setting(group, keys[0])), canonical(_setting(group, keys[1]))), []).append(group)
    lines = max(map(len, shared.values()))
    means = [rounded(cell.mean, cell.decimals) for g in c.groups if (cell := c.cells.get((g.number, metric.name)))]
    low, high = min(means, default=0.0), max(means, default=1.0)
    wide, tall, left, top = 92, 44, 62, 46
    height = tall * lines
    width = max(left + wide * len(columns) + 4, 250)
    d = Drawing(width, top + height * len(rows) + 4, f"{metric.name} by {keys[0]} and {keys[1]}", "heatmap")
    names = short_names(list(keys))
    row_names, column_names = value_names(keys[0], rows), value_names(keys[1], columns)
    d.text(4, 14, f"{names[keys[0]]} ↓   {names[keys[1]]} →", css="name", anchor="start")
    for j, value in enumerate(columns):
        d.text(left + wide * (j + 0.5), top - 9, column_names[canonical(value)], css="tick")
    for i, row in enumerate(rows):
        d.text(left - 8, top + height * (i + 0.5) + 4, row_names[canonical(row)], css="tick", anchor="end")
        for j, column in enumerate(columns):
            x, y = left + wide * j, top + height * i
            members = shared.get((canonical(row), canonical(column)), [])
            if not members:
                d.box(x + 1.5, y + 1.5, wide - 3, height - 3, "empty", rx=4)
            for place, group in enumerate(members):
                each = height / len(members)
                cell = c.cells.get((group.number, metric.name))
                mean = low if cell is None else rounded(cell.mean, cell.decimals)  # equal texts have one colour
                share = 0.5 if cell is None or high == low else (mean - low) / (high - low)
                d.open(css="strong" if cell is not None and share > 0.55 else None)
                d.add("title", group.label)
                opacity = f"{0.06 + 0.86 * share:.2f}" if cell else "0"
                d.box(x + 1.5, y + each * place + 1.5, wide - 3, each - 3, "cell", rx=4, fill_opacity=opacity)
                _cell_texts(d, x + wide / 2, y + each * (place + 0.5), cell, f"{group.letter}  " if lines > 1 else "")
                d.close()
    heading = f"{metric.name}: mean, half of the 95 % interval, n; darker is larger"
    return Figure(f"heatmap_{_slug(metric.name)}", metric.name, d.markup(), heading)


def _cell_texts(d: Drawing, x: float, y: float, cell: Cell | None, tag: str) -> None:
    """Mean, interval and n around a cell's centre."""
    d.text(x, y - 2, tag + (number(cell.mean, decimals=cell.decimals) if cell else "—"), css="value")
    half = [] if cell is None or cell.half is None else [f"±{number(cell.half, decimals=cell.decimals)}"]
    note = [*half, f"n={cell.n if cell else 0}"]
    d.text(x, y + 13, "  ".join(note), css="note")


def _setting(group: Group, key: str) -> Any:
    return group.effective_batch if key == "effective_batch" else group.settings.get(key, ABSENT)


# -- curves ------------------------------------------------------------------------------------


def curve_names(c: Comparison) -> list[str]:
    """The columns of metrics.csv worth a panel: the compared metrics on validation images, and the losses."""
    columns = dict.fromkeys(k for run in c.runs for row in run.rows[:1] + run.rows[-1:] for k in row)
    wanted = [f"val/{m.name.partition('/')[2]}" for m in c.metrics] + [m.name for m in c.metrics]
    return [n for n in dict.fromkeys(["val/auc", *wanted, "train/loss", "val/loss"]) if n in columns][:8]


def curves(c: Comparison, name: str) -> list[Figure]:
    """One panel for each x axis: a thin line a seed, the mean on top, its 95 % interval as a band."""
    out = []
    for column, label in X_AXES.items():
        lines = {g: [s for run in g.members if len((s := _series(run, column, name))[0])] for g in c.groups}
        every = [series for found in lines.values() for series in found]
        if not every:
            continue
        slug = f"curve_{_slug(name)}_{column}"
        d = Drawing(WIDTH, HEIGHT, f"{name} against {label}")
        axes = Axes(d, (0.0, max(float(x.max()) for x, _ in every)), _settled_range(every), (label, ""), whole_x=True)
        axes.clip(slug)
        for group, found in lines.items():
            if not found:
                continue
            d.open(css=f"series {colour(group)}", data_group=group.number)
            d.add("title", f"{group.letter}: {group.label}")
            common = np.array(sorted(set.intersection(*({*x.tolist()} for x, _ in found))))
            table = np.array([y[np.isin(x, common)] for x, y in found])
            if len(found) >= LEAST_SEEDS and len(common) > 1:  # that of two is twelve times as wide as they are apart
                _band(axes, common, table)
            for x, y in found:
                axes.line(x, y, "thin")
            if len(common):
                axes.line(common, table.mean(0), "mean")
            d.close()
        d.close()
        out.append(Figure(slug, name, d.markup(), f"{name} against {label}", legend(g for g in lines if lines[g])))
    return out


def _band(axes: Axes, xs: np.ndarray, table: np.ndarray) -> None:
    """The 95 % t interval of the mean of ``table`` [seeds, n] at each of ``xs`` [n]."""
    low, high = t_intervals(table)
    axes.band(xs.tolist(), low.tolist(), high.tolist(), "band")


def _series(run: Run, column: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """``name`` against ``column`` [n], at most 80 points (the same places in every run of as many rows)."""
    points = []
    for row in run.rows:
        try:
            x, y = float(row[column]), float(row[name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(x) and math.isfinite(y):
            points.append((x, y))
    if len(points) > MOST_POINTS:
        points = [points[i] for i in np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)]
    array = np.array(points).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _settled_range(every: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """The range of the last three quarters of each run: its first steps would flatten all that follows."""
    values = np.concatenate([y[x >= 0.25 * x.max()] for x, y in every])
    low, high = float(values.min()), float(values.max())
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


# -- ROC ---------------------------------------------------------------------------------------


def roc(c: Comparison, part: str) -> tuple[list[Figure], list[Run]]:
    """Linear and logarithmic panels: the mean true positive rate at each false positive rate over seeds (vertical
    averaging, Fawcett 2006, § 8.1), with its 95 % interval; and the runs that have no curve."""
    found: dict[Group, list[tuple[np.ndarray, np.ndarray]]] = {}
    without = []
    for group in c.groups:
        for run in group.members:
            arrays = run.arrays(f"roc_{part}", "fpr", "tpr")
            if arrays is None or arrays["fpr"].ndim != 1 or arrays["fpr"].shape != arrays["tpr"].shape:
                without.append(run)
            else:
                found.setdefault(group, []).append((arrays["fpr"], arrays["tpr"]))
    grids = {"linear": np.linspace(0, 1, 101), "log": np.geomspace(1e-3, 1, 61)}
    out = []
    for kind, grid in grids.items():
        d = Drawing(WIDTH, WIDTH * 0.86, f"ROC of {part} images, {kind} false positive rate")
        axes = Axes(d, (grid[0], 1.0), (0.0, 1.0), ("false positive rate", "true positive rate"), kind == "log")
        axes.clip(f"roc_{part}_{kind}")
        axes.line(grid, grid, "chance")
        for group, curves_of in found.items():
            table = np.array([np.interp(grid, fpr, tpr) for fpr, tpr in curves_of])
            d.open(css=f"series {colour(group)}", data_group=group.number)
            d.add("title", f"{group.letter}: {group.label}")
            if len(table) >= LEAST_SEEDS:
                _band(axes, grid, table)
            axes.line(grid, table.mean(0), "mean")
            d.close()
        d.close()
        title = f"ROC, {part} images" + ", log scale" * (kind == "log")
        out.append(Figure(f"roc_{part}_{kind}", title, d.markup(), legend=legend(found)))
    return (out if found else []), without


def _slug(name: str) -> str:
    return "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in name)
