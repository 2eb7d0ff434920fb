"""The rows and verdicts of a study: which of its runs there are, and what they say of each claim.

    python scripts/study.py studies/NAME                               # of the rows beside the plan
    python scripts/study.py studies/NAME --collect outputs/sweeps/NAME # make those rows of run directories
    python scripts/study.py studies/NAME --collect DIR --keep          # add them to the rows that are there
    python scripts/study.py studies/NAME --repeat outputs/sweeps/again # hold runs against the rows
    python scripts/study.py studies/NAME --pilot DIR                   # how many seeds a pilot asks for

Its runs are made by ``python train.py study=accumulation``. Files are written beside plan.yaml: runs.csv, tests.csv,
table.md, report.html and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from siamese.commands.arguments import Parser
from siamese.commands.messages import errors_in_one_line
from siamese.compare.terminal import safe
from siamese.errors import ConfigError, RunError
from siamese.runs.find import find_runs
from siamese.study import terminal
from siamese.study.plan import Plan
from siamese.study.reader import read_plan
from siamese.study.repeat import repeated
from siamese.study.rows import ROWS, Collected, Row, collect, read_rows, rows_so_far, write_rows
from siamese.study.verdicts import decide
from siamese.study.writing import write

LISTED = 8


def main(words: Sequence[str] | None = None, console: Console | None = None) -> None:
    """The command line."""
    with errors_in_one_line():
        parser = Parser("study", __doc__ or "")
        parser.add_argument("study", type=Path, metavar="STUDY", help="the folder of a plan.yaml")
        parser.add_argument("--collect", type=Path, nargs="+", metavar="DIR", help="write runs.csv of these runs first")
        keep = "with --collect: keep the rows of runs that are not in DIR, as of another machine"
        parser.add_argument("--keep", action="store_true", help=keep)
        again = "instead, hold these runs against the rows of the same arms and seeds"
        parser.add_argument("--repeat", type=Path, nargs="+", metavar="DIR", help=again)
        seeds = "instead, say of these runs of the pilot how many seeds each comparison would take"
        parser.add_argument("--pilot", type=Path, nargs="+", metavar="DIR", help=seeds)
        parser.add_argument("--paper", action="store_true", help="write every figure as PNG and as PDF too")
        into = "put the tables between the markers <!-- study: begin --> and <!-- study: end --> of this Markdown page"
        into += ", and the figures into the folder beside it that has its name"
        parser.add_argument("--page", type=Path, metavar="FILE", help=into)
        asked = parser.parse_args(words)
        console = console or Console()
        plan = read_plan(asked.study)
        if len(both := [f"--{name}" for name in ("collect", "repeat", "pilot") if getattr(asked, name)]) > 1:
            raise ConfigError(f"{' and '.join(both)}: expected one of them")
        if asked.keep and not asked.collect:
            raise ConfigError("--keep: expected beside --collect, whose rows it adds to those that are there")
        if asked.repeat:
            terminal.show_repeat(repeated(plan, read_rows(plan), find_runs(asked.repeat)[0]), console)
            return
        if asked.pilot:
            found = _found(plan, asked.pilot, console, pilot=True)
            terminal.show_pilot(plan, found.rows, decide(plan, found.rows), console)
            return
        if asked.collect:
            _collect(plan, asked.collect, console, keep=asked.keep)
        show(plan, console, paper=asked.paper, page=asked.page)


def show(plan: Plan, console: Console, *, paper: bool = False, page: Path | None = None) -> None:
    """Print the verdicts of the rows beside ``plan``, and write the files that are made of them."""
    rows = read_rows(plan)
    decided = decide(plan, rows)
    terminal.show(plan, rows, decided, console)
    files = ", ".join(write(plan, rows, decided, paper=paper, into=page))
    console.print(f"\nwritten to {plan.path.parent}: {files}", highlight=False, soft_wrap=True, markup=False)


def _collect(plan: Plan, folders: Sequence[Path], console: Console, *, keep: bool) -> None:
    found = _found(plan, folders, console, rows_so_far(plan) if keep else ())
    write_rows(found.rows, plan.path.parent / ROWS)


def _found(
    plan: Plan, folders: Sequence[Path], console: Console, kept: Sequence[Row] = (), *, pilot: bool = False
) -> Collected:
    """The runs of ``plan`` in ``folders``; says which are missing, and what else is there."""
    runs, left_out = find_runs(folders)
    found = collect(plan, runs, kept, pilot=pilot)
    if not found.rows:
        there = f"; there are {len(found.outside):,} outside it" * bool(found.outside)
        raise RunError(
            f"{', '.join(map(str, folders))}: no complete run of {'the pilot of ' * pilot}{plan.path}{there}"
            + " (--pilot reads those of its pilot)" * (not pilot and bool(collect(plan, runs, pilot=True).rows))
        )
    for title, names in {
        "outside the plan": found.outside,
        "missing": [f"{arm} seed {seed}" for arm, seed in found.missing],
        "left out": [f"{run.path.name}: {run.reason}" for run in left_out],
    }.items():
        if names:
            more = f" and {len(names) - LISTED:,} more" * (len(names) > LISTED)
            text = safe("; ".join(names[:LISTED]) + more)
            console.print(f"[yellow]{title}[/yellow] ({len(names):,}): {text}", highlight=False, soft_wrap=True)
    return found
