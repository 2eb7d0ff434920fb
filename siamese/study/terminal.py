"""A study on the terminal: claims with their answers, and below each its comparisons, however narrow it is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console

from siamese.compare import statistics as st
from siamese.compare.differences import Difference
from siamese.compare.terminal import COLOURS, safe
from siamese.compare.wording import difference_text, margin_text, p_value
from siamese.study.plan import Plan
from siamese.study.repeat import Repeated
from siamese.study.rows import Row
from siamese.study.verdicts import Answer, Decided
from siamese.study.writing import noise_text, notes

TONES = {Answer.HOLDS: "bold green", Answer.FAILS: "bold magenta", Answer.OPEN: "yellow"}


def show(plan: Plan, rows: Sequence[Row], decided: Sequence[Decided], console: Console) -> None:
    """Print every claim: what it says, its answer, and its comparisons."""
    console.print(f"[bold]{safe(plan.name)}[/bold]", highlight=False)
    for line in [plan.question, *notes(plan, rows)]:
        console.print(safe(line), highlight=False)
    for one in decided:
        tone = TONES[one.answer]
        name, seeds = safe(one.claim.name), f"{one.seeds} of {one.claim.seeds} seeds"
        console.print(f"\n[{tone}]{one.says}[/{tone}]  [bold]{name}[/bold]  {seeds}", highlight=False)
        for line in textwrap.wrap(one.claim.says, max(console.width - 7, 1)):
            console.print(f"       {safe(line)}", highlight=False, soft_wrap=True)
        for c in one.comparisons:
            d = c.found
            p = p_value(d.p_holm)
            first = f"{d.group.label} against {d.baseline.label}"
            second = f"{d.metric.name}  {difference_text(d)}"
            third = f"margin {margin_text(d.metric)}, noise {noise_text(c)}" + f", p {p}" * bool(p)
            style = COLOURS[d.verdict] if d.verdict else "dim"
            for line in (first, second, third):
                console.print(f"       {safe(line)}", highlight=False, soft_wrap=True)
            console.print(f"       [{style}]{safe(d.says)}[/{style}]", highlight=False, soft_wrap=True)


def show_pilot(plan: Plan, rows: Sequence[Row], decided: Sequence[Decided], console: Console) -> None:
    """Print, of each comparison, how many seeds it would take by the runs of the pilot, of which no verdict is made."""
    seeds = sorted({row.place[1] for row in rows})
    console.print(f"the pilot of {safe(plan.name)}: seeds {', '.join(map(str, seeds))}", highlight=False)
    for one in decided:
        console.print(f"\n[bold]{safe(one.claim.name)}[/bold], {one.claim.seeds} seeds planned", highlight=False)
        for c in one.comparisons:
            d = c.found
            console.print(safe(f"  {d.group.label} against {d.baseline.label}, {d.metric.name}"), highlight=False)
            console.print(f"    {_takes(d)}", highlight=False)


def _takes(d: Difference) -> str:
    if d.n < st.LEAST_SEEDS:
        return f"not to be told from {d.n} of its seeds; a pilot takes {st.LEAST_SEEDS}"
    if d.metric.margin is None or d.p_t is None:
        return f"no {'margin' if d.metric.margin is None else 'spread'}, by which seeds would be counted"
    needed = st.seeds_needed(d.metric.margin.bound, st.spread(d.differences), st.ALPHA / d.family)
    return "more seeds than can be had" if needed is None else f"about {needed:,} seeds"


def show_repeat(found: Sequence[Repeated], console: Console) -> None:
    """Print, of each run, how many of its measures are the study's to the last bit, and the farthest of the others."""
    for one in found:
        line = f"{one.arm} seed {one.seed}: {one.equal} of {one.measures} measures are equal to the last bit"
        if one.farthest is not None:
            name, before, now = one.farthest
            line += f"; {name} is farthest, {now!r} for {before!r}"
        if one.other:
            line += f" (another {' and other '.join(one.other)})"
        console.print(safe(line), highlight=False, soft_wrap=True)
    exact = sum(one.farthest is None for one in found)
    console.print(f"{exact} of {len(found)} runs are bit for bit those of the study", highlight=False)
