"""Numbers, intervals and the method as a reader wants them, the same on the terminal, in files and on the page."""

from __future__ import annotations

import math

from siamese.compare.comparison import Comparison
from siamese.compare.differences import Cell, Difference
from siamese.compare.metrics import Metric
from siamese.compare.rounding import USUAL, shared_decimals
from siamese.compare.statistics import ALPHA, LEAST_SEEDS

LONGEST = 80  # characters of the name of a class or of an image


def number(value: float | None, sign: bool = False, decimals: int | None = USUAL) -> str:
    """As many decimals as asked, four digits and an exponent where that is None; a true minus. What is rounded to zero
    has no sign."""
    if value is None:
        return ""
    text = f"{value:z.3e}" if decimals is None else f"{value:z.{decimals}f}"
    if sign and not text.startswith("-") and float(text) != 0:
        text = f"+{text}"
    return text.replace("-", "−")


def alone(value: float | None) -> str:
    """A number that stands by itself: four decimals, or four digits where that says little."""
    return "" if value is None else number(value, decimals=shared_decimals([value], []))


def p_value(p: float | None) -> str:
    return "" if p is None else "<0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def mean_and_interval(cell: Cell | None, size: int | None = None) -> str:
    """``0.9135 ±0.0042`` (95 % t interval), and n where it is not ``size``."""
    if cell is None:
        return "—"
    n = "" if cell.n == size else f" (n={cell.n})"
    half = "" if cell.half is None else f" ±{number(cell.half, decimals=cell.decimals)}"
    return f"{number(cell.mean, decimals=cell.decimals)}{half}{n}"


def effect_text(d: Difference, value: float | None) -> str:
    """A difference (or one end of its interval) on the scale a reader thinks in: +0.0016, or ×1.05."""
    if value is None:
        return ""
    if d.scale == "log_ratio":
        return f"×{math.exp(value):.3f}" if value < 30 else f"×e^{value:.0f}"
    return number(value, sign=True, decimals=d.decimals)


def difference_text(d: Difference) -> str:
    """The mean difference with its 95 % interval."""
    if d.interval is None:
        return effect_text(d, d.mean)
    low, high = (effect_text(d, end) for end in d.interval)
    return f"{effect_text(d, d.mean)} [{low}, {high}]"


def cut(name: str) -> str:
    """A name from a run on the page: of a long one the middle is left out, since such names often begin alike."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[1 - LONGEST // 2 :]}"


def margin_text(metric: Metric) -> str:
    if metric.margin is None:
        return "none"
    return f"±{metric.margin.size:g}" if metric.margin.scale == "difference" else f"±{metric.margin.size:.0%}"


def counted(c: Comparison) -> str:
    """``24 runs in 4 groups of 6 (seed 0 to 5)``, one line."""
    sizes = sorted({len(g.runs) for g in c.groups})
    each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    name = " × ".join(k.rpartition(".")[2] for k in c.options.pair_by)
    groups = f"{len(c.groups)} groups" if len(c.groups) > 1 else "1 group"
    of = "" if c.options.evaluation is None else f", by their evaluation {c.options.evaluation}"
    return f"{counted_runs(len(c.runs))} in {groups}, {each} {name}{'s' if each != '1' else ''} each{of}"


def method(c: Comparison) -> str:
    """What the verdicts mean, in one paragraph."""
    family = max((d.family for d in c.differences), default=0)
    if not family:
        return (
            f"No verdict: that takes {LEAST_SEEDS} seeds at least, the same ones in a group and its baseline, whose "
            "differences vary."
        )
    return (
        f"Differences are paired by {' and '.join(c.options.pair_by)}, the unit of replication. "
        f"Each metric is a family of its own ({family} comparison{'s' * (family != 1)}), p adjusted by Holm. "
        f"DIFFERENT: paired t test, p < {ALPHA}. EQUIVALENT: two one-sided t tests within the margin, p < {ALPHA}. "
        "DIFFERENT BUT NEGLIGIBLE: both. INCONCLUSIVE: neither. "
        f"The sign-flip test has to agree wherever that many seeds let it reach {ALPHA}; elsewhere the t test decides "
        "alone, and is then wrong more often of skewed differences. With the seeds that a line names, a "
        "difference as large as the margin or none at all would be told with 80 % power. "
        "Intervals are 95 % t intervals, not adjusted."
    )


def counted_runs(n: int) -> str:
    return f"{n} run{'s' * (n != 1)}"
