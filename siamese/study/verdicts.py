"""What the rows of a study say of its claims: every comparison by the statistics of :mod:`siamese.compare`, Holm's
adjustment over the family that the plan names, and of each claim whether it stands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from siamese.compare import statistics as st
from siamese.compare.differences import Difference, cells_of, compared, settled
from siamese.compare.grouping import Group, Unit
from siamese.compare.metrics import Metric
from siamese.runs.run import Run
from siamese.study.plan import Claim, Plan, Side
from siamese.study.rows import Row

Table = dict[str, dict[int, Row]]  # by arm and seed


class Answer(StrEnum):
    """Of a comparison or a claim."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    OPEN = "OPEN"


@dataclass(frozen=True)
class Compared:
    """One comparison of a claim: what was expected, what was found, and whether they agree."""

    expected: str
    found: Difference
    answer: Answer
    noise: (
        float | None
    )  # the standard deviation of this measure between two orders of sums; None where too few are known


@dataclass(frozen=True)
class Decided:
    """A claim with its comparisons, metric by metric."""

    claim: Claim
    comparisons: list[Compared]

    @property
    def answer(self) -> Answer:
        """FAILS where any comparison ends otherwise than expected, HOLDS where all end so, else OPEN."""
        answers = [c.answer for c in self.comparisons]
        if Answer.FAILS in answers:
            return Answer.FAILS
        return Answer.HOLDS if answers and set(answers) == {Answer.HOLDS} else Answer.OPEN

    @property
    def says(self) -> str:
        """The answer, and whether it may still change: who stops where an answer pleases is wrong more often than the
        level says."""
        early = self.answer is not Answer.OPEN and self.seeds < self.claim.seeds
        return f"{self.answer} so far" if early else str(self.answer)

    @property
    def seeds(self) -> int:
        """The fewest seeds of any comparison."""
        return min((c.found.n for c in self.comparisons), default=0)


def decide(plan: Plan, rows: Sequence[Row]) -> list[Decided]:
    """Every claim of ``plan`` as ``rows`` have it, as far as there are rows."""
    table: Table = {}
    for row in rows:
        arm, seed = row.place
        table.setdefault(arm, {})[seed] = row
    raw = {claim.name: _comparisons(plan, claim, table) for claim in plan.claims}
    families: dict[str, list[Difference]] = {}
    for claim in plan.claims:
        families.setdefault(claim.family, []).extend(raw[claim.name])
    verdicts = {id(before): after for own in families.values() for before, after in zip(own, settled(own), strict=True)}
    out = []
    for claim in plan.claims:
        noise = {metric: noise_floor(plan, table, metric) for metric in claim.metrics}
        found = []
        for d in (verdicts[id(before)] for before in raw[claim.name]):
            expected = claim.metrics[d.metric.name]
            found.append(Compared(expected, d, _answer(expected, d), noise[d.metric.name]))
        out.append(Decided(claim, found))
    return out


def noise_floor(plan: Plan, table: Table, metric: str) -> float | None:
    """The standard deviation, over seeds, of ``metric`` between the two arms of the plan that differ by the order of
    their sums alone, on the scale of the metric's margin; None below three seeds."""
    if not plan.noise:
        return None
    one, other = (table.get(arm, {}) for arm in plan.noise)
    found = [
        _apart(one[s].measures[metric], other[s].measures[metric], _is_ratio(plan, metric))
        for s in one.keys() & other.keys()
        if metric in one[s].measures and metric in other[s].measures
    ]
    finite = [value for value in found if value is not None]
    return st.spread(np.array(sorted(finite))) if len(finite) >= st.LEAST_SEEDS else None


def _comparisons(plan: Plan, claim: Claim, table: Table) -> list[Difference]:
    out = []
    for name in claim.metrics:
        metric = Metric(name, None, False, plan.margin(name))
        sides = [claim.baseline, *claim.sides]
        groups = [_group(plan, number, side, name, table) for number, side in enumerate(sides)]
        cells = cells_of(groups, name, Run.metric)
        out += compared(metric, dict.fromkeys(groups[1:], groups[0]), cells)
    return out


def _group(plan: Plan, number: int, side: Side, metric: str, table: Table) -> Group:
    """A side as compare knows them: of each seed a run that has the one measure."""
    source = side.metric or metric
    runs: dict[Unit, list[Run]] = {}
    for seed, row in table.get(side.arm, {}).items():
        value = row.measures.get(source)
        if side.minus is not None:
            other = table.get(side.minus, {}).get(seed)
            less = None if other is None else other.measures.get(source)
            value = None if value is None or less is None else _apart(value, less, _is_ratio(plan, metric))
            if value is not None and _is_ratio(plan, metric):
                value = math.exp(value)  # compare takes the logarithm of the ratio of both sides
        if value is not None:
            runs[(str(seed),)] = [Run(Path(side.arm, str(seed)), {"seed": seed}, {}, {metric: {"value": value}})]
    return Group(number, {}, side.label, runs, None)


def _is_ratio(plan: Plan, metric: str) -> bool:
    margin = plan.margin(metric)
    return margin is not None and margin.scale == "log_ratio"


def _apart(value: float, other: float, ratio: bool) -> float | None:
    """The difference, or the logarithm of the ratio where there is one."""
    if not ratio:
        return value - other
    return math.log(value / other) if value > 0 and other > 0 else None


def _answer(expected: str, d: Difference) -> Answer:
    if d.verdict is None or d.verdict is st.Verdict.INCONCLUSIVE or d.mean is None:
        return Answer.OPEN
    within = d.verdict in (st.Verdict.EQUIVALENT, st.Verdict.NEGLIGIBLE)
    apart = d.verdict is st.Verdict.DIFFERENT
    sides = {"HIGHER": d.mean > 0, "LOWER": d.mean < 0, "DIFFERENT": True}
    agrees = within if expected == "EQUIVALENT" else apart and sides[expected]
    return Answer.HOLDS if agrees else Answer.FAILS
