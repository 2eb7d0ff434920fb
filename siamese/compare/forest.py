"""A forest plot: every paired difference of one metric, by its size, over the margin."""

from __future__ import annotations

import math

from siamese.compare.comparison import Comparison
from siamese.compare.differences import Difference
from siamese.compare.figure import Figure, colour
from siamese.compare.metrics import Metric
from siamese.compare.svg import Drawing, short, tick_texts, ticks
from siamese.compare.wording import difference_text

WIDTH, LEFT, RIGHT, ROW = 640, 76, 250, 28  # of the drawing, of the names, of the words, of a line; in pixels
MOST_LOG = 5.0  # of a ratio that is written as one on the axis


def forests(c: Comparison) -> list[Figure]:
    """A plot a metric that anything was compared in."""
    return [_forest(c, m, own) for m in c.metrics if (own := [d for d in c.differences if d.metric is m])]


def _forest(c: Comparison, metric: Metric, differences: list[Difference]) -> Figure:
    """Point and 95 % interval of each difference, the largest first; what has none is a line of words at the end."""
    rows = sorted(differences, key=lambda d: (d.mean is None, -(d.mean or 0.0)))
    low, high = extent(rows)
    top, bottom = 8, 8 + ROW * len(rows)
    d = Drawing(WIDTH, bottom + 44, f"differences in {metric.name} by size", "forest")

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    if metric.margin:
        bound = metric.margin.bound
        d.box(x(-bound), top, x(bound) - x(-bound), bottom - top, "margin")
    logs = metric.margin is not None and metric.margin.scale == "log_ratio"
    ratio = logs and max(-low, high) < MOST_LOG
    at = [t for t in ticks(math.exp(low), math.exp(high), 4) if t > 0] if ratio else ticks(low, high, 4)
    texts = [f"×{text}" for text in tick_texts(at)] if ratio else tick_texts(at)
    d.open(css="axis")
    for value, text in zip(map(math.log, at) if ratio else at, texts, strict=True):
        d.add("path", d=f"M{short(x(value))} {top}V{bottom}", css="grid")
        d.text(x(value), bottom + 14, text)
    d.add("path", d=f"M{short(x(0))} {top}V{bottom}", css="base")
    what = "logarithm of the ratio" if logs and not ratio else "ratio" if ratio else "difference"
    d.text((LEFT + WIDTH - RIGHT) / 2, bottom + 31, f"{what} to the baseline, 95 % interval", css="name")
    d.close()
    for i, row in enumerate(rows):
        y = top + ROW * (i + 0.5)
        d.open(css=f"series {colour(row.group)}", data_group=row.group.number)
        d.add("title", f"{row.group.letter}: {row.group.label}; {row.says}")
        if row.interval:
            left, right = map(x, row.interval)
            ends = "".join(f"M{short(end)} {short(y - 4)}v8" for end in (left, right))
            d.add("path", d=f"M{short(left)} {short(y)}H{short(right)}{ends}", css="whisker")
        if row.mean is not None:
            d.box(x(row.mean) - 3.5, y - 3.5, 7, 7, "square")
        d.close()
        d.text(8, y + 4, f"{row.group.letter} {'/' if logs else '−'} {row.baseline.letter}", css="tick", anchor="start")
        d.text(WIDTH - RIGHT + 12, y - 1, difference_text(row), css="tick", anchor="start")
        d.text(WIDTH - RIGHT + 12, y + 9, str(row.verdict or "no verdict"), css="note", anchor="start")
    letters = {g.number: g for row in rows for g in (row.group, row.baseline)}
    slug = "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in metric.name)
    heading = f"{metric.name}: differences to the baseline by size" + "; margin shaded" * (metric.margin is not None)
    named = tuple((colour(g), f"{g.letter}: {g.label}") for _, g in sorted(letters.items()))
    return Figure(f"forest_{slug}", metric.name, d.markup(), heading, named)


def extent(differences: list[Difference]) -> tuple[float, float]:
    """The range that shows zero, the margin and every interval."""
    ends = [0.0]
    for d in differences:
        ends += [*(d.interval or ()), *([d.mean] if d.mean is not None else [])]
        ends += [side * d.metric.margin.bound for side in (-1, 1) if d.metric.margin]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 1.0
    return low - pad, high + pad
