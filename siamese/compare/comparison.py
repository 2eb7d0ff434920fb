"""One comparison: the runs under some directories, their groups, and every paired difference with its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from siamese.compare import statistics as st
from siamese.compare.evaluations import evaluated
from siamese.compare.grouping import (
    Group,
    Unit,
    baselines,
    known_key,
    make_groups,
    parse_condition,
    telling_keys,
    unit_name,
    varying_keys,
    without_repeats,
)
from siamese.compare.images import require_same_images
from siamese.compare.metrics import MARGINS, Metric, choose_metrics, read_margins, undefined
from siamese.compare.settings import settings_of
from siamese.compare.warnings import (
    averaging_warnings,
    batch_warnings,
    class_warnings,
    provenance_warnings,
    unread_warnings,
)
from siamese.errors import ConfigError
from siamese.runs.find import find_runs
from siamese.runs.run import LeftOut, Run


class NothingUsable(Exception):
    """No complete run is left to compare; carries what was left out."""

    def __init__(self, message: str, left_out: Sequence[LeftOut] = ()) -> None:
        super().__init__(message)
        self.left_out = list(left_out)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    where: tuple[str, ...] = ()
    pair_by: tuple[str, ...] = ("seed",)
    group_by: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    margins: Path = MARGINS
    evaluation: str | None = None  # of each run, instead of its own measures


@dataclass(frozen=True)
class Cell:
    """A metric in a group: one value a seed."""

    values: dict[Unit, float]
    mean: float
    low: float | None  # 95 % t interval of the mean, from two seeds on
    high: float | None

    @property
    def n(self) -> int:
        return len(self.values)


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
    p_holm: float | None = None
    p_tost_holm: float | None = None
    effect: float | None = None
    family: int = 0  # comparisons that Holm's adjustment is over
    seeds_needed: int | None = None
    verdict: st.Verdict | None = None
    says: str = ""

    @property
    def n(self) -> int:
        return len(self.units)

    @property
    def better(self) -> bool | None:
        """Whether the mean lies on the good side of the baseline; None where the metric has no direction."""
        if not self.mean or self.metric.direction not in ("max", "min"):
            return None
        return (self.mean > 0) == (self.metric.direction == "max")


@dataclass(frozen=True, eq=False)
class Comparison:
    inputs: tuple[Path, ...]
    options: Options
    runs: list[Run]
    left_out: list[LeftOut]
    varying: list[str]  # the keys that tell runs apart
    keys: list[str]  # the keys that groups are made by
    constant: dict[str, Any]
    groups: list[Group]
    metrics: list[Metric]
    cells: dict[tuple[int, str], Cell]  # by group number and metric name
    differences: list[Difference]
    warnings: list[str]
    unpaired: bool  # some seed of a group has no partner

    @property
    def named(self) -> list[str]:
        """The keys that tables show: all that groups are made by, or a few that tell the groups apart."""
        return telling_keys([g.settings for g in self.groups])


def compare(paths: Sequence[Path], options: Options) -> Comparison:
    """Read, group, pair and test.

    Raises:
        ConfigError: for a path, key, condition, metric, margin or evaluation that cannot be used, and for runs that
            were tested on different images.
        NothingUsable: when no complete run is left.
    """
    margins = read_margins(options.margins)
    runs, left_out = find_runs(paths)
    if not runs:
        raise NothingUsable("no complete run directory found", left_out)
    keys = list(dict.fromkeys(k for run in runs for k in settings_of(run)))
    pair_by = [known_key(k, keys) for k in options.pair_by]
    for key in options.group_by:
        if known_key(key, keys) in pair_by:
            raise ConfigError(f"--group-by {key}: runs are paired by it; choose another key, or another --pair-by")
    conditions = [parse_condition(text, keys) for text in options.where]
    chosen = [run for run in runs if all(c.holds(settings_of(run)) for c in conditions)]
    left_out += [
        LeftOut(run.path, f"not {' and '.join(options.where)}", "filtered") for run in runs if run not in chosen
    ]
    if not chosen:
        raise NothingUsable(f"none of {len(runs)} complete runs fits {' and '.join(options.where)}", left_out)
    runs, repeated = without_repeats(chosen, pair_by)
    left_out += repeated
    if options.evaluation is not None:
        runs, damaged = evaluated(runs, options.evaluation)
        left_out += damaged
    if not runs:
        raise NothingUsable(f"no evaluation {options.evaluation} can be read", left_out)

    varying, constant = varying_keys(runs, pair_by)
    group_keys = list(options.group_by) or varying
    groups = make_groups(runs, group_keys, pair_by)
    metrics = choose_metrics(runs, options.metrics, margins)
    pairs = baselines(groups, [parse_condition(text, keys) for text in options.baseline])
    require_same_images(groups, pairs, metrics)
    cells = {(g.number, m.name): cell for g in groups for m in metrics if (cell := _cell(g, m.name))}
    differences = [
        d
        for m in metrics
        for d in _settled([_difference(m, g, pairs[g.number], cells) for g in groups if g.number in pairs])
    ]
    unpaired = [
        f"{g.label}: {len(alone)} without a partner in ({pairs[g.number].label}): "
        + "; ".join(unit_name(u, pair_by) for u in sorted(alone))
        for g in groups
        if g.number in pairs and (alone := g.runs.keys() ^ pairs[g.number].runs.keys())
    ]
    warnings = [
        *(f"unpaired, and left out of the differences: {line}" for line in unpaired),
        *provenance_warnings(runs, groups, pairs, pair_by),
        *batch_warnings(groups, [m.name for m in metrics if m.batch_dependent]),
        *averaging_warnings(groups, varying, group_keys),
        *undefined(runs, metrics),
        *unread_warnings(runs),
        *class_warnings(runs),
    ]
    return Comparison(
        tuple(paths),
        options,
        runs,
        left_out,
        varying,
        group_keys,
        constant,
        groups,
        metrics,
        cells,
        differences,
        warnings,
        bool(unpaired),
    )


def _cell(group: Group, metric: str) -> Cell | None:
    found = {u: [v for run in runs if (v := run.metric(metric)) is not None] for u, runs in group.runs.items()}
    values = {u: float(np.mean(v)) for u, v in found.items() if v}
    if not values:
        return None
    array = np.array(list(values.values()))
    low, high = st.t_interval(array) if len(array) > 1 else (None, None)
    return Cell(values, float(array.mean()), low, high)


def _difference(metric: Metric, group: Group, baseline: Group, cells: Mapping[tuple[int, str], Cell]) -> Difference:
    """Everything about one comparison but what depends on the others."""
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
        return replace(out, says="no verdict: one seed is a description")
    out = replace(out, interval=st.t_interval(d), interval_90=st.t_interval(d, 1 - 2 * st.ALPHA))
    bound = metric.margin.bound if metric.margin else None
    if st.spread(d) == 0:
        if not np.any(d):  # nothing differs, whatever would be tested
            return replace(out, p_t=1.0, p_sign_flip=1.0, p_tost=None if bound is None else 0.0)
        return replace(
            out, says="no verdict: every seed differs by the same amount, which leaves no spread to test with"
        )
    p_flip, exact = st.sign_flip(d)
    return replace(
        out,
        bca=st.bca_interval(d),
        p_t=st.paired_t(d),
        p_sign_flip=p_flip,
        sign_flip_exact=exact,
        p_wilcoxon=st.wilcoxon(d),
        p_tost=None if bound is None else st.tost(d, bound),
        effect=st.hedges_gz(d) if len(d) > 2 else None,
    )


def _settled(raw: Sequence[Difference]) -> list[Difference]:
    """The verdicts on one metric: Holm over its comparisons, for the differences and for the equivalences."""
    p_t = {i: d.p_t for i, d in enumerate(raw) if d.p_t is not None}
    p_tost = {i: d.p_tost for i, d in enumerate(raw) if d.p_tost is not None}
    different = dict(zip(p_t, st.holm(list(p_t.values())), strict=True))
    within = dict(zip(p_tost, st.holm(list(p_tost.values())), strict=True))
    out = list(raw)
    for i, adjusted in different.items():
        d, found = raw[i], st.verdict(adjusted, within.get(i))
        needed, says = None, str(found)
        if found is st.Verdict.INCONCLUSIVE and d.metric.margin is None:
            says = f"{found} (no margin declared)"
        elif found is st.Verdict.INCONCLUSIVE and d.metric.margin:
            needed = st.seeds_needed(d.metric.margin.bound, st.spread(d.differences), st.ALPHA / len(p_t))
            needed = needed and max(needed, d.n + 1)
            says = f"{found} (about {needed} seeds needed)" if needed else f"{found} (over 10,000 seeds needed)"
        elif not np.any(d.differences):
            says = f"{found} (the same value in every seed)"
        out[i] = replace(
            d,
            p_holm=adjusted,
            p_tost_holm=within.get(i),
            family=len(p_t),
            verdict=found,
            seeds_needed=needed,
            says=says,
        )
    return out
