"""Compare output directories: what differs, by how much, and whether the seeds can tell.

    python scripts/compare.py outputs/sweeps/NAME --baseline trainer.accumulate_grad_batches=1
    python scripts/compare.py RUN_A RUN_B
    python scripts/compare.py RUN_A RUN_B --evaluation best_image_folder_photos
    python scripts/compare.py studies/accumulation
    python scripts/compare.py outputs/sweeps/NAME --where 'loss.koleo_weight>0' --metrics 'test/auc,test/recall_*'

Reads complete run directories only, and says what it left out. Runs that differ in nothing but the seed
form a group; groups are compared seed by seed. Exit status: 0 done, 1 files could not be written,
2 a command that cannot be carried out, 3 no complete run to compare, 4 --strict found incomplete or unpaired runs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from siamese.commands import study
from siamese.commands.arguments import Parser
from siamese.compare import terminal
from siamese.compare.comparison import Comparison, NothingUsable, Options, compare
from siamese.compare.metrics import MARGINS
from siamese.compare.writing import check_heatmap, check_out, default_out, write
from siamese.errors import ConfigError, RunError, several
from siamese.runs.run import running
from siamese.study.plan import PLAN
from siamese.study.reader import read_plan

FAILED, BAD_COMMAND, NOTHING_USABLE, STRICT = 1, 2, 3, 4
QUIET_LOOKS = 2  # looks without a running run that end --watch: the next job of a sweep takes seconds to appear


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("compare", __doc__ or "")
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="DIR", help="run directories, or folders that hold them")
    baseline = "the group that others are held against; repeat it to name more keys (default: the first group)"
    add("--baseline", action="append", default=[], metavar="KEY=VALUE", help=baseline)
    where = "only runs that fit, such as 'loss.koleo_weight>0' (= != < <= > >=); repeated, all must hold"
    add("--where", action="append", default=[], metavar="CONDITION", help=where)
    metrics = "metrics of summary.json, or of classes (test/ellipse_area/CLASS), * allowed (default: a few of test)"
    add("--metrics", type=_listed, default=(), metavar="NAME,…", help=metrics)
    add("--pair-by", type=_listed, default=("seed",), metavar="KEY,…", help="what pairs runs (default: seed)")
    group_by = "group by these keys alone (default: all scientific keys that vary)"
    add("--group-by", type=_listed, default=(), metavar="KEY,…", help=group_by)
    evaluation = "compare RUN/evaluations/NAME of every run, as evaluate.py wrote it, in place of its own measures"
    add("--evaluation", metavar="NAME", help=evaluation)
    heatmap = "the two keys of the heatmap (default: two that vary)"
    add("--heatmap", type=_listed, default=(), metavar="KEY,KEY", help=heatmap)
    margins = "below what a difference is negligible (default: siamese/compare/margins.yaml)"
    add("--margins", type=Path, default=MARGINS, metavar="FILE", help=margins)
    out = "where the files go (default: DIR.comparison beside the first DIR)"
    add("--out", type=Path, metavar="DIR", help=out)
    paper = "write every figure as PNG (200 dpi) and PDF too, for a paper"
    add("--paper", action="store_true", help=paper)
    watch = "redraw the tables while runs are going on (every 10 s), then write the files"
    add("--watch", nargs="?", type=_seconds, const=10.0, metavar="SECONDS", help=watch)
    add("--strict", action="store_true", help="exit with 4 when a run is incomplete or a seed unpaired")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None, console: Console | None = None) -> int:
    """The command line; returns its exit status."""
    console = console or Console()
    try:
        asked = arguments(words)
        if any((path / PLAN).exists() for path in asked.paths):
            _study(asked, console)
            return 0
        options = Options(
            tuple(asked.where),
            asked.pair_by,
            asked.group_by,
            asked.metrics,
            tuple(asked.baseline),
            asked.margins,
            asked.evaluation,
        )
        out = asked.out or default_out(asked.paths[0])
        check_out(out)
        if asked.heatmap and len(asked.heatmap) != 2:
            raise ConfigError(f"--heatmap {','.join(asked.heatmap)}: expected two keys, KEY,KEY")

        def look() -> Comparison:
            found = compare(asked.paths, options)
            check_heatmap(found, asked.heatmap)
            return found

        found = look() if asked.watch is None else _watch(look, asked.watch, console)
        if asked.watch is None:
            terminal.show(found, console)
        own_words = sys.argv[1:] if words is None else words
        files, boxes = write(found, out, asked.heatmap, own_words, asked.paper)
        said = f"\nwritten to {out}: {', '.join(files)}"
        letters = [letter if letter.isprintable() else f"U+{ord(letter):04X}" for letter in sorted(boxes)]
        said += f"\nboxes in PNG and PDF, whose font does not have them: {several(letters)}" * bool(boxes)
        console.print(said, highlight=False, soft_wrap=True, markup=False)
    except ConfigError as error:
        return _stop(str(error), BAD_COMMAND)
    except RunError as error:
        return _stop(str(error), FAILED)
    except NothingUsable as error:
        terminal.show_left_out(error.left_out, console)
        return _stop(str(error), NOTHING_USABLE)
    except KeyboardInterrupt:
        return 130
    incomplete = [run for run in found.left_out if run.state not in ("filtered", "repeated")]
    if asked.strict and (incomplete or found.unpaired):
        what = [f"{len(incomplete)} incomplete runs"] * bool(incomplete) + ["unpaired seeds"] * found.unpaired
        return _stop(f"--strict: {' and '.join(what)} (named above)", STRICT)
    return 0


def _study(asked: argparse.Namespace, console: Console) -> None:
    """Show the study that is asked for, which has a plan of its own for all that the other flags say."""
    plain = vars(arguments([str(asked.paths[0])])) | {"paths": asked.paths[:1], "paper": asked.paper}
    if other := [name for name, value in vars(asked).items() if value != plain[name]]:
        what = "other folders" if other[0] == "paths" else f"--{other[0].replace('_', '-')}"
        raise ConfigError(f"{what}: a study is compared by its own plan; expected the study alone, or with --paper")
    study.show(read_plan(asked.paths[0]), console, paper=asked.paper)


def _watch(look: Callable[[], Comparison], every: float, console: Console) -> Comparison:
    """Redraw until no run is going on any more."""
    quiet = 0
    while True:
        found: Comparison | NothingUsable
        try:
            found = look()
        except NothingUsable as nothing:
            found = nothing
        alive = sum(map(running, found.left_out))
        quiet = 0 if alive else quiet + 1
        if console.is_terminal:
            console.clear()
        if isinstance(found, Comparison):
            terminal.show(found, console)
        else:
            terminal.show_left_out(found.left_out, console)
        if quiet >= QUIET_LOOKS:
            if isinstance(found, NothingUsable):
                raise found
            return found
        console.print(f"[dim]{alive} running; looking again every {every:g} s; Ctrl-C ends[/dim]", highlight=False)
        time.sleep(every)


def _stop(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status


def _listed(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(","))
    if not all(words):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, found {text!r}")
    return words


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, found {text!r}")
    return seconds
