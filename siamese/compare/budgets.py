"""The same comparison at several epochs, which tells what only trains slower from what ends elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from siamese.compare.comparison import Comparison
from siamese.compare.differences import Difference, cells_of, compared, settled
from siamese.compare.metrics import Metric
from siamese.runs.run import Run

Values = dict[str, dict[int, float]]  # of a run: a measure's value after each epoch


@dataclass(frozen=True)
class Budgets:
    """The differences in one measure of validation images after each of ``epochs``."""

    metric: Metric
    epochs: list[int]
    differences: dict[int, list[Difference]]  # by epoch, a group each


def budgets(c: Comparison) -> list[Budgets]:
    """Each compared metric that metrics.csv has of validation images, after 1, 2, 4, 8, … epochs and the last that all
    runs reached. All groups and epochs of a metric are one family, since each is a chance to be misled."""
    pairs = {d.group: d.baseline for d in c.differences}
    names = dict.fromkeys(m.name.partition("/")[2] for m in c.metrics)
    metrics = [(f"val/{name}", next(m for m in c.metrics if m.name.endswith(f"/{name}"))) for name in names]
    values = {run: _values(run, [name for name, _ in metrics]) for run in c.runs} if pairs else {}
    out = []
    for name, like in metrics:
        shared = set.intersection(*(set(own.get(name, {})) for own in values.values())) if values else set()
        last = max(shared, default=0)
        epochs = sorted({e for e in shared if e > 0 and e & (e - 1) == 0} | {last} - {0})
        if len(epochs) < 2:
            continue
        metric, found = replace(like, name=name), []
        for epoch in epochs:
            after = partial(_after, values, epoch)
            cells = cells_of(c.groups, name, after)
            found += compared(metric, pairs, cells)
        verdicts = settled(found)
        by_epoch = {e: verdicts[i * len(pairs) : (i + 1) * len(pairs)] for i, e in enumerate(epochs)}
        out.append(Budgets(metric, epochs, by_epoch))
    return out


def _values(run: Run, names: list[str]) -> Values:
    found: Values = {}
    for row in run.rows:
        for name in names:
            try:
                epoch, value = float(row["epoch"]), float(row[name])
            except (KeyError, ValueError):
                continue
            if epoch.is_integer() and value - value == 0:  # finite
                found.setdefault(name, {})[int(epoch)] = value
    return found


def _after(values: dict[Run, Values], epoch: int, run: Run, name: str) -> float | None:
    return values[run][name].get(epoch)
