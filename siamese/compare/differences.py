"""What a metric is in each group, and every paired difference to a baseline with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from siamese.compare import statistics as st
from siamese.compare.grouping import Group, Unit
from siamese.compare.metrics import Metric
from siamese.compare.rounding import shared_decimals
from siamese.runs.run import Run

Value = Callable[[Run, str], float | None]  # of a run, by the name of a metric


@dataclass(frozen=True)
class Cell:
    """A metric in a group: one value a seed."""

    values: dict[Unit, float]
    mean: float
    low: float | None  # 95 % t interval of the mean, from two seeds on, where they differ
    high: float | None
    decimals: int | None = None  # that the metric is shown with in every group

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def half(self) -> float | None:
        """Half of the interval."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True, eq=False)
class Difference:
    """A group against its baseline in one metric, paired by seed; on log_ratio, of logarithms."""

    metric: Metric
    group: Group
    baseline: Group
    units: tuple[Unit, ...]
    differences: np.ndarray
    scale: str
    mean: float | None = None
    interval: tuple[float, float] | None = None  # 95 %
    interval_90: tuple[float, float] | None = None  # lies within the margin exactly where p_tost < 0.05
    bca: tuple[float, float] | None = None
    p_t: float | None = None
    p_sign_flip: float | None = None
    sign_flip_exact: bool = True
    p_wilcoxon: float | None = None
    p_tost: float | None = None
    p_tost_flip: float | None = None
    p_holm: float | None = None  # of the larger of p_t and p_sign_flip, or of p_t where no flips reach the level
    p_tost_holm: float | None = None
    effect: float | None = None
    family: int = 0  # comparisons that Holm's adjustment is over
    seeds_needed: int | None = None
    verdict: st.Verdict | None = None
    decided_by: str | None = None  # the test with the larger p, which the verdict hangs on
    says: str = ""
    decimals: int | None = None  # that the metric's differences are shown with

    @property
    def n(self) -> int:
        return len(self.units)

    @property
    def better(self) -> bool | None:
        """Whether the mean lies on the good side of the baseline; None where the metric has no direction."""
        if not self.mean or self.metric.direction not in ("max", "min"):
            return None
        return (self.mean > 0) == (self.metric.direction == "max")


def cells_of(groups: Sequence[Group], metric: str, value: Value) -> dict[tuple[int, str], Cell]:
    """The metric in each group that has it, by group number and metric; runs that share a group and a seed are averaged
    first."""
    found = {(g.number, metric): cell for g in groups if (cell := _cell(g, metric, value))}
    halves = [cell.half for cell in found.values()]
    decimals = shared_decimals([cell.mean for cell in found.values()], halves)
    return {key: replace(cell, decimals=decimals) for key, cell in found.items()}


def compared(metric: Metric, pairs: Mapping[Group, Group], cells: Mapping[tuple[int, str], Cell]) -> list[Difference]:
    """The difference of each group to its baseline, as far as it does not depend on the others."""
    found = [_difference(metric, group, baseline, cells) for group, baseline in pairs.items()]
    halves = [None if d.interval is None else (d.interval[1] - d.interval[0]) / 2 for d in found]
    decimals = shared_decimals([d.mean for d in found if d.mean is not None], halves)
    return [replace(d, decimals=decimals) for d in found]


def _cell(group: Group, metric: str, value: Value) -> Cell | None:
    found = {u: [v for run in runs if (v := value(run, metric)) is not None] for u, runs in group.runs.items()}
    values = {u: float(np.mean(v)) for u, v in found.items() if v}
    if not values:
        return None
    array = np.array(list(values.values()))
    low, high = st.t_interval(array) if len(array) > 1 and st.spread(array) > 0 else (None, None)
    return Cell(values, float(array.mean()), low, high)


def _difference(metric: Metric, group: Group, baseline: Group, cells: Mapping[tuple[int, str], Cell]) -> Difference:
    own, other = cells.get((group.number, metric.name)), cells.get((baseline.number, metric.name))
    scale = metric.margin.scale if metric.margin else "difference"
    units = tuple(u for u in own.values if u in other.values) if own and other else ()
    empty = Difference(metric, group, baseline, units, np.zeros(0), scale)
    if not own or not other or not units:
        return replace(empty, says="no verdict: no seed has it on both sides")
    a, b = (np.array([cell.values[u] for u in units]) for cell in (own, other))
    if scale == "log_ratio" and min(a.min(), b.min()) <= 0:
        return replace(empty, says="no verdict: a ratio needs positive values")
    d = np.log(a / b) if scale == "log_ratio" else a - b
    out = replace(empty, differences=d, mean=float(d.mean()))
    if len(d) == 1:
        return replace(out, says=f"no verdict: one seed is a description; a verdict takes {st.LEAST_SEEDS}")
    if st.spread(d) == 0:
        how = "differs by the same amount" if np.any(d) else "has the same value on both sides"
        return replace(out, says=f"no verdict: every seed {how}, which leaves no spread to test with")
    out = replace(out, interval=st.t_interval(d), interval_90=st.t_interval(d, 1 - 2 * st.ALPHA))
    if len(d) < st.LEAST_SEEDS:
        return replace(
            out, says=f"no verdict: {len(d)} seeds hardly tell how much they vary; it takes {st.LEAST_SEEDS}"
        )
    p_flip, exact = st.sign_flip(d)
    bound = metric.margin.bound if metric.margin else None
    return replace(
        out,
        bca=st.bca_interval(d),
        p_t=st.paired_t(d),
        p_sign_flip=p_flip,
        sign_flip_exact=exact,
        p_wilcoxon=st.wilcoxon(d),
        p_tost=None if bound is None else st.tost(d, bound),
        p_tost_flip=None if bound is None else st.tost_flip(d, bound),
        effect=st.hedges_gz(d),
    )


def settled(raw: Sequence[Difference]) -> list[Difference]:
    """The verdicts on one family of comparisons: Holm's adjustment over them, for the differences and for the
    equivalences, of the larger p of both tests wherever sign flips can reach the level."""
    tested = [d for d in raw if d.p_t is not None]
    equated = [d for d in tested if d.p_tost is not None]
    family, equations = len(tested), len(equated)
    flips = {d for d in tested if st.sign_flip_reaches(d.n, family)}
    flips_within = {d for d in equated if st.sign_flip_reaches(d.n, equations, one_sided=True)}
    by_t = _adjusted({d: [d.p_t] for d in tested}), _adjusted({d: [d.p_tost] for d in equated})
    p_different = _adjusted({d: [d.p_t, d.p_sign_flip if d in flips else None] for d in tested})
    p_within = _adjusted({d: [d.p_tost, d.p_tost_flip if d in flips_within else None] for d in equated})
    out = []
    for d in raw:
        if d not in p_different:
            out.append(d)
            continue
        found = st.verdict(p_different[d], p_within.get(d))
        needed = _seeds_needed(d, family) if found is st.Verdict.INCONCLUSIVE else None
        equal = found is st.Verdict.EQUIVALENT
        both = d in (flips_within if equal else flips)
        p, p_flip = (d.p_tost, d.p_tost_flip) if equal else (d.p_t, d.p_sign_flip)
        larger = "sign flip" if p is not None and p_flip is not None and p_flip > p else "t"
        t_alone = st.verdict(by_t[0][d], by_t[1].get(d))
        out.append(
            replace(
                d,
                p_holm=p_different[d],
                p_tost_holm=p_within.get(d),
                family=family,
                verdict=found,
                seeds_needed=needed,
                decided_by=larger if both else "t alone",
                says=_says(d, found, needed, both, None if t_alone is found else t_alone),
            )
        )
    return out


def _adjusted(p_values: Mapping[Difference, Sequence[float | None]]) -> dict[Difference, float]:
    """Holm's adjustment of the larger p of each difference."""
    larger = [max(p for p in own if p is not None) for own in p_values.values()]
    return dict(zip(p_values, st.holm(larger), strict=True))


def _seeds_needed(d: Difference, family: int) -> int | None:
    if d.metric.margin is None:
        return None
    needed = st.seeds_needed(d.metric.margin.bound, st.spread(d.differences), st.ALPHA / family)
    return needed and max(needed, d.n + 1)


def _says(d: Difference, found: st.Verdict, needed: int | None, both: bool, t_alone: st.Verdict | None) -> str:
    """The verdict and, in brackets, which tests it is by, or what it would take."""
    notes = [f"t alone says {t_alone}"] * (t_alone is not None)
    if found is not st.Verdict.INCONCLUSIVE:
        notes = notes or ["t and sign flip" if both else "t alone"]
    elif d.metric.margin is None:
        notes.append("no margin declared")
    else:
        notes.append(f"about {needed} seeds needed" if needed else "over 10,000 seeds needed")
    return f"{found} ({'; '.join(notes)})"
