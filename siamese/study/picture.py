"""A claim as a drawing: every difference with its interval, in multiples of its margin, so that all measures share an
axis and what lies within the band is negligible."""

from __future__ import annotations

import math
from collections.abc import Callable

from siamese.compare.figure import Figure
from siamese.compare.svg import Drawing, short, tick_texts, ticks
from siamese.compare.wording import difference_text
from siamese.study.verdicts import Compared, Decided

WIDTH, LEFT, RIGHT, ROW = 760, 250, 200, 34  # of the drawing, of the names, of the words, of a line; in pixels
COLOURS = {"HOLDS": "g2", "FAILS": "g1", "OPEN": "g0"}
FARTHEST = 12.0  # margins that the axis reaches; what lies beyond is an arrow at its end


def forest(decided: Decided) -> Figure | None:
    """Point and 95 % interval of each comparison of a claim; None where nothing was compared yet."""
    rows = [c for c in decided.comparisons if c.found.interval is not None]
    if not rows:
        return None
    low, high = _extent(rows)
    top, bottom = 8, 8 + ROW * len(rows)
    d = Drawing(WIDTH, bottom + 44, f"{decided.claim.name}: differences in multiples of the margin", "forest")

    def x(value: float) -> float:
        return LEFT + (min(max(value, low), high) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    d.box(x(-1), top, x(1) - x(-1), bottom - top, "margin")
    at = ticks(low, high, 6)
    d.open(css="axis")
    for value, text in zip(at, tick_texts(at), strict=True):
        d.add("path", d=f"M{short(x(value))} {top}V{bottom}", css="grid")
        d.text(x(value), bottom + 14, text)
    d.add("path", d=f"M{short(x(0))} {top}V{bottom}", css="base")
    d.text((LEFT + WIDTH - RIGHT) / 2, bottom + 31, "difference in margins, 95 % interval", css="name")
    d.close()
    for i, row in enumerate(rows):
        _row(d, row, top + ROW * (i + 0.5), x)
    says = f"{decided.claim.says} {decided.answer}."
    return Figure(f"claim_{decided.claim.name}", decided.claim.name, d.markup(), says)


def _row(d: Drawing, row: Compared, y: float, x: Callable[[float], float]) -> None:
    assert row.found.interval is not None
    assert row.found.mean is not None
    bound = _bound(row)
    mean, left, right = (x(value / bound) for value in (row.found.mean, *row.found.interval))
    d.open(css=f"series {COLOURS[row.answer]}")
    ends = "".join(f"M{short(end)} {short(y - 4)}v8" for end in (left, right))
    d.add("path", d=f"M{short(left)} {short(y)}H{short(right)}{ends}", css="whisker")
    d.box(mean - 3.5, y - 3.5, 7, 7, "square")
    if abs(row.found.mean / bound) > FARTHEST:
        out = math.copysign(1.0, row.found.mean)
        d.add(
            "path", d=f"M{short(mean + 6 * out)} {short(y - 4)}l{short(5 * out)} 4l{short(-5 * out)} 4", css="whisker"
        )
    d.close()
    d.text(8, y - 2, row.found.group.label, css="tick", anchor="start")
    d.text(8, y + 10, f"{row.found.metric.name}, n={row.found.n}", css="note", anchor="start")
    d.text(WIDTH - RIGHT + 16, y - 2, difference_text(row.found), css="tick", anchor="start")
    d.text(WIDTH - RIGHT + 16, y + 10, f"{row.found.verdict or 'no verdict'}", css="note", anchor="start")


def _bound(row: Compared) -> float:
    return row.found.metric.margin.bound if row.found.metric.margin else 1.0


def _extent(rows: list[Compared]) -> tuple[float, float]:
    """The range of the axis in margins: the margin and every interval, at most twelve margins either way."""
    ends = [-1.0, 1.0]
    for row in rows:
        assert row.found.interval is not None
        ends += [end / _bound(row) for end in row.found.interval]
    low, high = max(min(ends), -FARTHEST), min(max(ends), FARTHEST)
    pad = 0.06 * (high - low)
    return low - pad, high + pad
