"""What a reader has to know before believing a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from siamese.compare.grouping import Group, unit_name
from siamese.compare.metrics import run_measures
from siamese.runs.run import Run


def provenance_warnings(
    runs: Sequence[Run], groups: Sequence[Group], pairs: Mapping[int, Group], pair_by: Sequence[str]
) -> list[str]:
    """Different code, packages, devices, data or weights to start from, and pairs that are not on the same split."""
    out = []
    shas = _distinct(runs, "git", "sha")
    if len(shas) > 1:
        out.append(f"different code: {len(shas)} git commits ({', '.join(str(s)[:7] for s in shas)})")
    dirty = sum(bool(_fact(run, "git", "dirty")) for run in runs)
    if dirty:
        out.append(f"uncommitted changes: {dirty} of {len(runs)} runs come from a modified checkout")
    for package in sorted({p for run in runs for p in _node(run, "packages")}):
        versions = _distinct(runs, "packages", package)
        if len(versions) > 1:
            out.append(f"different versions of {package}: {', '.join(map(str, versions))}")
    devices = _distinct(runs, "device", "type")
    if len(devices) > 1:
        out.append(f"different devices: {', '.join(map(str, devices))}")
    elif len(names := _distinct(runs, "device", "name")) > 1:
        out.append(f"different {'GPUs' if devices == ['cuda'] else 'processors'}: {', '.join(names)}")
    data = _mixed_data(runs, groups)
    if data:
        out.append(f"mixed data: {len(data)} data sets (fingerprints {', '.join(data)})")
    for path, marks in _changed_weights(runs).items():
        out.append(f"model.weights={path} was not the same file for all (fingerprints {', '.join(marks)})")
    for group in groups:
        baseline = pairs.get(group.number)
        shared = group.runs.keys() & baseline.runs.keys() if baseline else set()
        other = [
            unit
            for unit in shared
            if baseline and _distinct(group.runs[unit], *SPLIT) != _distinct(baseline.runs[unit], *SPLIT)
        ]
        if baseline and other:
            units = "; ".join(unit_name(u, pair_by) for u in sorted(other))
            out.append(f"pairs on different splits: ({group.label}) and ({baseline.label}) at {units}")
    if any(key == "data.fold" for key in pair_by):
        out.append(
            "paired by fold: training sets of folds overlap, so intervals are too narrow and p too small "
            "(Nadeau and Bengio 2003); new seeds are the better replicates"
        )
    return out


def batch_warnings(groups: Sequence[Group], batch_dependent: Sequence[str]) -> list[str]:
    """Metrics that are not comparable across batch sizes."""
    sizes = {
        tuple(run.config.get(k) for k in ("data.batch_size", "trainer.accumulate_grad_batches"))
        for group in groups
        for run in group.members
    }
    if len(sizes) < 2:
        return []
    return [f"{name} depends on the batch it is measured on, and batches differ here" for name in batch_dependent]


def unread_warnings(runs: Sequence[Run]) -> list[str]:
    """Runs whose curves cannot be drawn, since their rows cannot be read."""
    unread = [f"{run.name}: {run.rows_unread}" for run in runs if run.rows_unread is not None]
    more = f"; and {len(unread) - 3} more" * (len(unread) > 3)
    return [f"no curves of {len(unread)} of {len(runs)} runs ({'; '.join(unread[:3])}{more})"] if unread else []


def averaging_warnings(groups: Sequence[Group], varying: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Runs that are averaged before anything is tested."""
    most = max(len(runs) for group in groups for runs in group.runs.values())
    if most == 1:
        return []
    hidden = [k for k in varying if k not in keys]
    over = f", over {', '.join(hidden)}" if hidden else " (the same configuration and seed from other code)"
    return [f"up to {most} runs share a group and a seed and are averaged first{over}"]


def class_warnings(runs: Sequence[Run]) -> list[str]:
    """Measures of single classes that are too many to be listed."""
    names = {name for run in runs for name in run.summary}
    hidden = len(names) - len(run_measures(runs))
    return [f"{hidden:,} measures of single classes are not listed; they are in each summary.json"] if hidden else []


SPLIT = ("split", "fingerprint")
DATA = ("data", "fingerprint")


def _mixed_data(runs: Sequence[Run], groups: Sequence[Group]) -> list[str]:
    """The fingerprints that meet in some pair; of all runs where nothing is paired. A subset of the images that
    each seed draws for itself is the same for all runs of that seed, and mixes nothing."""
    by_unit: dict[Any, list[Run]] = {}
    for group in groups:
        for unit, members in group.runs.items():
            by_unit.setdefault(unit, []).extend(members)
    paired = any(sum(unit in group.runs for group in groups) > 1 for unit in by_unit)
    sets = [_distinct(members, *DATA) for members in by_unit.values()] if paired else [_distinct(runs, *DATA)]
    return list(dict.fromkeys(one for found in sets if len(found) > 1 for one in found))


def _changed_weights(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The fingerprints of what runs started from, where one name stood for several files."""
    by_path: dict[str, list[Run]] = {}
    for run in runs:
        if (path := run.config.get("model.weights")) is not None:
            by_path.setdefault(str(path), []).append(run)
    marks = {path: _distinct(members, "weights", "fingerprint") for path, members in by_path.items()}
    return {path: found for path, found in marks.items() if len(found) > 1}


def _node(run: Run, name: str) -> Mapping[str, Any]:
    node = run.manifest.get(name)
    return node if isinstance(node, dict) else {}


def _fact(run: Run, node: str, key: str) -> Any:
    return _node(run, node).get(key)


def _distinct(runs: Sequence[Run], node: str, key: str) -> list[Any]:
    return list(dict.fromkeys(str(fact) for run in runs if (fact := _fact(run, node, key)) is not None))
