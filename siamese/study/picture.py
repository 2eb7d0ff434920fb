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

PLOT, RIGHT, ROW = 310, 260, 34  # of the axis, of the words, of a line; in pixels
LETTER, SMALL = 6.6, 5.7  # the widest usual letter of a name and of a note
HEAD = 22  # of a line that names a claim
COLOURS = {"HOLDS": "g0", "FAILS": "g1", "OPEN": "g2"}
MEANINGS = {"HOLDS": "as the claim expects", "FAILS": "otherwise than it expects", "OPEN": "not settled"}
FARTHEST = 12.0  # margins that the axis reaches; what lies beyond is an arrow at its end
INSIDE = 14  # pixels from there to the square of a difference that lies beyond


def forest(decided: Decided) -> Figure | None:
    """Point and 95 % interval of each comparison of a claim; None where nothing was compared yet."""
    says = f"{decided.claim.says} {decided.says}. (Margin shaded.)"
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
    named_by = [words for _, rows in blocks for row in rows for words in _names(row)]
    left = 24 + max(len(text) * wide for text, wide in named_by)
    top, bottom = 8, 8 + sum(HEAD * named + ROW * len(rows) for _, rows in blocks)
    d = Drawing(left + PLOT + RIGHT, bottom + 44, heading, "forest")

    def x(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * PLOT

    d.box(x(-1), top, x(1) - x(-1), bottom - top, "margin")
    at = ticks(low, high, 6)
    d.open(css="axis")
    for value, text in zip(at, tick_texts(at), strict=True):
        d.add("path", d=f"M{short(x(value))} {top}V{bottom}", css="grid")
        d.text(x(value), bottom + 14, text)
    d.add("path", d=f"M{short(x(0))} {top}V{bottom}", css="base")
    d.text(left + PLOT / 2, bottom + 31, "difference in margins, 95 % interval", css="name")
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
    first, last = x(-math.inf), x(math.inf)
    mean, low, high = (x(value / bound) for value in (row.found.mean, *row.found.interval))
    mean = min(max(mean, first + INSIDE), last - INSIDE)
    d.open(css=f"series {COLOURS[row.answer]}")
    ends = "".join(_end(at, y, first, last) for at in dict.fromkeys((low, high)))
    d.add("path", d=f"M{short(min(low, mean))} {short(y)}H{short(max(high, mean))}{ends}", css="whisker")
    d.box(mean - 3.5, y - 3.5, 7, 7, "square")
    d.close()
    (name, _), (note, _) = _names(row)
    d.text(8, y - 2, name, css="tick", anchor="start")
    d.text(8, y + 10, note, css="note", anchor="start")
    d.text(last + 16, y - 2, difference_text(row.found), css="tick", anchor="start")
    verdict = f"{row.found.verdict or 'no verdict'}, n={row.found.n}"
    d.text(last + 16, y + 10, verdict, css="note", anchor="start")


def _names(row: Compared) -> tuple[tuple[str, float], tuple[str, float]]:
    """What stands left of a line, above and below, each with the width of its letters."""
    note = f"{row.found.metric.name} against {row.found.baseline.label}"
    return (row.found.group.label, LETTER), (note, SMALL)


def _end(at: float, y: float, first: float, last: float) -> str:
    """The end of an interval: a cap, or an arrow where it lies beyond the axis, which is from ``first`` to ``last``."""
    if first < at < last:
        return f"M{short(at)} {short(y - 4)}v8"
    base = at + (5 if at == first else -5)
    return f"M{short(base)} {short(y - 4)}L{short(at)} {short(y)}L{short(base)} {short(y + 4)}"


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
