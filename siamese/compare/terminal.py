"""A comparison on the terminal: blocks of lines that keep every number whole, however narrow it is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import markup
from rich.console import Console

from siamese.compare.comparison import Comparison
from siamese.compare.differences import Difference
from siamese.compare.grouping import Group, shown
from siamese.compare.metrics import Metric
from siamese.compare.statistics import Verdict
from siamese.compare.wording import (
    counted,
    counted_runs,
    difference_text,
    margin_text,
    mean_and_interval,
    method,
    p_value,
)
from siamese.runs.run import LeftOut

COLOURS = {
    Verdict.DIFFERENT: "bold magenta",
    Verdict.EQUIVALENT: "bold green",
    Verdict.NEGLIGIBLE: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
}
LISTED = 12  # left-out runs and warnings that the terminal names one by one
GAP = "  "


def safe(text: str) -> str:
    """Text from a run directory for the terminal: no markup, no control codes."""
    return markup.escape("".join(ch if ch.isprintable() else "�" for ch in text))


def show(c: Comparison, console: Console) -> None:
    """Print the whole comparison."""
    say = console.print
    say(f"[bold]{safe(counted(c))}[/bold]", highlight=False)
    if c.varying:
        hidden = len(c.keys) - len(c.named)
        more = f" ({hidden} of them not shown below: the others tell the groups apart)" if hidden else ""
        say(f"vary: {safe(', '.join(c.varying))}{more}", highlight=False)
    say(f"constant: {len(c.constant)} keys (hidden; in report.json)", highlight=False)
    show_left_out(c.left_out, console)
    for line in c.warnings[:LISTED]:
        say(f"[yellow]warning:[/yellow] {safe(line)}", highlight=False, soft_wrap=True)
    if len(c.warnings) > LISTED:
        say(f"[yellow]and {len(c.warnings) - LISTED} more warnings[/yellow] in report.json")
    say("\ngroups", style="bold")
    width = max((len(g.letter) for g in c.groups), default=1)
    for group in c.groups:
        indent = " " * (width + 2 * len(GAP))
        room = console.width - len(indent)
        lines = textwrap.wrap(safe(_described(group)), room, break_long_words=False, break_on_hyphens=False)
        text = f"\n{indent}".join(lines)
        say(f"{GAP}[bold]{group.letter:{width}}[/bold]{GAP}{text}", highlight=False, soft_wrap=True)
    for metric in c.metrics:
        _show_metric(c, metric, width, console)
    if any(m.batch_dependent for m in c.metrics):
        say("† depends on the batch it is measured on")
    if c.differences:
        say(f"\n[dim]{safe(method(c))}[/dim]", highlight=False)
    elif len(c.groups) == 1:
        say("one group: nothing to compare it with")


def show_left_out(left_out: Sequence[LeftOut], console: Console) -> None:
    """Which directories take no part, and why; many alike as a count."""
    if not left_out:
        return
    console.print(f"left out: {counted_runs(len(left_out))}", highlight=False)
    for run in left_out[:LISTED]:
        line = f"  {safe(run.path.name)}: {safe(run.reason)}"
        console.print(line, highlight=False, soft_wrap=True)
    if len(left_out) > LISTED:
        states: dict[str, int] = {}
        for run in left_out[LISTED:]:
            states[run.state] = states.get(run.state, 0) + 1
        console.print("  and " + ", ".join(f"{n} {safe(state)}" for state, n in states.items()), highlight=False)


def _described(group: Group) -> str:
    size = len(group.runs)
    return f"{group.label} · effective batch {shown(group.effective_batch or 'mixed')} · n={size}"


def _show_metric(c: Comparison, metric: Metric, width: int, console: Console) -> None:
    """A line a group: its mean, the difference to its baseline, p and verdict, which has a line of its own wherever
    the terminal is too narrow for all of them."""
    differences = {d.group.number: d for d in c.differences if d.metric is metric}
    table = []
    for group in c.groups:
        d = differences.get(group.number)
        value = mean_and_interval(c.cells.get((group.number, metric.name)), len(group.runs))
        table.append([value, *(_difference(d, width) if d else ("", ""))])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    longest = max((len(d.says) for d in differences.values()), default=0)
    wide = width + sum(widths) + longest + len(GAP) * 5 <= console.width
    margin = f", margin {margin_text(metric)}" if differences else ""
    console.print(
        f"\n[bold]{safe(metric.name)}[/bold]{' †' * metric.batch_dependent}  mean ± half of the 95 % interval{margin}",
        highlight=False,
    )
    for group, cells in zip(c.groups, table, strict=True):
        d = differences.get(group.number)
        texts = [text.ljust(size) for text, size in zip(cells, widths, strict=True)]
        line = GAP + GAP.join([f"[bold]{group.letter:{width}}[/bold]", *texts]).rstrip()
        if d is not None:
            style = COLOURS[d.verdict] if d.verdict else "dim"
            says = f"[{style}]{safe(d.says)}[/{style}]"
            line = GAP + GAP.join([f"[bold]{group.letter:{width}}[/bold]", *texts, says]) if wide else line
            line += "" if wide else "\n" + " " * (width + 2 * len(GAP)) + says
        console.print(line, highlight=False, soft_wrap=True)


def _difference(d: Difference, width: int) -> tuple[str, str]:
    """The difference and its p; n where seeds of the group are left out."""
    paired = "" if d.n == len(d.group.runs) else f"  n={d.n}"
    p = p_value(d.p_holm)
    return f"against {d.baseline.letter:{width}}  {difference_text(d)}{paired}", f"p {p}" if p else ""
