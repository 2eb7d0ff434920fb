"""A search in pictures: functions of Optuna's trials, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from siamese.palette import GREY, LINES


def history(trials: Sequence[FrozenTrial], metric: str) -> Figure:
    """Every trial's value, the best so far, and where pruned ones were when they were stopped."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    pruned = [t for t in trials if t.state == TrialState.PRUNED and t.intermediate_values]
    best, highest = [], float("-inf")
    for trial in done:
        highest = max(highest, _value(trial))
        best.append(highest)
    if pruned:
        last = [t.intermediate_values[max(t.intermediate_values)] for t in pruned]
        axes.scatter([t.number for t in pruned], last, marker="x", color=GREY, label="pruned, when it was")
    axes.scatter([t.number for t in done], [_value(t) for t in done], color=LINES[0], s=18, label="finished")
    axes.step([t.number for t in done], best, where="post", color=LINES[1], label="best so far")
    axes.set(xlabel="trial", ylabel=metric)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def importances(shares: Mapping[str, float]) -> Figure:
    """How much of the spread of values each key explains."""
    figure = Figure(figsize=(7, 0.8 + 0.35 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    bars = axes.barh(names, [shares[name] for name in names], color=LINES[0])
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.set(xlabel="share of the importance", xlim=(0, 1.1 * max(shares.values(), default=1.0) or 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def slices(trials: Sequence[FrozenTrial], metric: str) -> Figure:
    """The values of finished trials against each key that they tried."""
    done = [t for t in trials if t.state == TrialState.COMPLETE]
    kinds: dict[str, Any] = {key: kind for t in done for key, kind in t.distributions.items()}
    columns = min(4, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (key, kind) in zip(grid.flat, kinds.items(), strict=False):
        having = [t for t in done if key in t.params]
        x: list[Any] = [t.params[key] for t in having]
        if isinstance(kind, CategoricalDistribution):
            axes.set_xticks(range(len(kind.choices)), [str(choice) for choice in kind.choices])
            axes.set_xlim(-0.5, len(kind.choices) - 0.5)
            x = [kind.choices.index(value) for value in x]
        elif isinstance(kind, (FloatDistribution, IntDistribution)):
            axes.set_xscale("log" if kind.log else "linear")
            axes.set_xlim(kind.low, kind.high)
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.scatter(x, [_value(t) for t in having], s=14, color=LINES[0], alpha=0.7, clip_on=False)
        axes.set_xlabel(key)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid.flat[len(kinds) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel(metric)
    return figure


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value
