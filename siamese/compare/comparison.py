"""One comparison: the runs under some directories, their groups, and every paired difference with its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.compare.differences import Cell, Difference, cells_of, compared, settled
from siamese.compare.evaluations import evaluated
from siamese.compare.grouping import (
    Group,
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
    cells = {key: cell for m in metrics for key, cell in cells_of(groups, m.name, Run.metric).items()}
    paired = {g: pairs[g.number] for g in groups if g.number in pairs}
    differences = [d for m in metrics for d in settled(compared(m, paired, cells))]
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
