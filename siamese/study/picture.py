"""A claim as a drawing: every difference with its interval, in multiples of its margin, so that all measures share an
axis and what lies within the band is negligible."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from siamese.compare.figure import Figure
from siamese.compare.svg import Drawing, short, tick_texts, ticks
from siamese.compare.wording import difference_text
from siamese.study.plan import Plan
from siamese.study.verdicts import Compared, Decided

WIDTH, LEFT, RIGHT, ROW = 820, 250, 260, 34  # of the drawing, of the names, of the words, of a line; in pixels
HEAD = 22  # of a line that names a claim
COLOURS = {"HOLDS": "g0", "FAILS": "g1", "OPEN": "g2"}
MEANINGS = {"HOLDS": "as the claim expects", "FAILS": "otherwise than it expects", "OPEN": "not settled"}
FARTHEST = 12.0  # margins that the axis reaches; what lies beyond is an arrow at its end


def forest(decided: Decided) -> Figure | None:
    """Point and 95 % interval of each comparison of a claim; None where nothing was compared yet."""
    says = f"{decided.claim.says} {decided.says}."
    return _drawn(f"claim_{decided.claim.name}", decided.claim.name, says, [decided])


def overview(plan: Plan, decided: Sequence[Decided]) -> Figure | None:
    """The same of every claim, one below the other."""
    heading = f"{plan.name}: every comparison in multiples of its margin, which is shaded"
    return _drawn("overview", plan.name, heading, decided)


def _drawn(slug: str, title: str, heading: str, decided: Sequence[Decided]) -> Figure | None:
    blocks = [(one, rows) for one in decided if (rows := [c for c in one.comparisons if c.found.interval is not None])]
    if not blocks:
        return None
    named = len(decided) > 1
    low, high = _extent([row for _, rows in blocks for row in rows])
    top, bottom = 8, 8 + sum(HEAD * named + ROW * len(rows) for _, rows in blocks)
    d = Drawing(WIDTH, bottom + 44, heading, "forest")

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
    y = float(top)
    for one, rows in blocks:
        if named:
            d.text(8, y + 15, f"{one.claim.name}: {one.says}", css="tick name", anchor="start", font_weight=600)
            y += HEAD
        for row in rows:
            _row(d, row, y + ROW / 2, x)
            y += ROW
    answers = dict.fromkeys(row.answer for _, rows in blocks for row in rows)
    legend = tuple((COLOURS[answer], MEANINGS[answer]) for answer in COLOURS if answer in answers)
    return Figure(slug, title, d.markup(), heading, legend)


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
        base, tip = mean + 6 * out, mean + 11 * out
        arrow = f"M{short(base)} {short(y - 4)}L{short(tip)} {short(y)}L{short(base)} {short(y + 4)}"
        d.add("path", d=arrow, css="whisker")
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
