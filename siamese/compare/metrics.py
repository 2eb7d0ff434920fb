"""Which metrics are compared, and how small a difference in each is negligible."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from siamese.errors import ConfigError, nearest
from siamese.runs.run import Run

MARGINS = Path(__file__).parent / "margins.yaml"
# What is compared where --metrics does not say: few, for each is one more chance to be misled.
MEASURES = ("auc", "recall_at_1", "map_at_r", "intra_distance", "inter_distance", "effective_rank", "ellipse_area_mean")
MOST_UNNAMED = 6
MOST_OF_CLASSES = 500  # measures of single classes that runs are listed with


@dataclass(frozen=True)
class Margin:
    scale: str  # difference or log_ratio
    size: float  # 0.005; for log_ratio 0.10 means a factor of 1.10 either way

    @property
    def bound(self) -> float:
        """The margin on the scale the test works on."""
        return math.log1p(self.size) if self.scale == "log_ratio" else self.size

    @staticmethod
    def read(entry: Any) -> tuple[str, Margin]:
        """The pattern and the margin of an entry such as ``{metric: auc, scale: difference, margin: 0.005}``.

        Raises:
            ConfigError: for anything else.
        """
        good = isinstance(entry, Mapping) and entry.keys() == {"metric", "scale", "margin"}
        size = entry["margin"] if good else None
        good = good and isinstance(size, (int, float)) and not isinstance(size, bool) and 0 < size < math.inf
        if not good or entry["scale"] not in ("difference", "log_ratio"):
            expected = "{metric: PATTERN, scale: difference or log_ratio, margin: a number above 0}"
            raise ConfigError(f"expected {expected}, found {entry}")
        return str(entry["metric"]), Margin(entry["scale"], float(entry["margin"]))


@dataclass(frozen=True)
class Metric:
    name: str
    direction: str | None  # max or min
    batch_dependent: bool
    margin: Margin | None


def run_measures(runs: Sequence[Run]) -> list[str]:
    """The measures that ``runs`` are listed with: all, but those of single classes where there are very many."""
    names = list(dict.fromkeys(name for run in runs for name in run.summary))
    if sum(map(of_one_class, names)) <= MOST_OF_CLASSES:
        return names
    return [name for name in names if not of_one_class(name)]


def of_one_class(name: str) -> bool:
    """Whether ``name`` is the measure of a single class, such as ``test/ellipse_area/cat``."""
    return name.count("/") > 1


def read_margins(path: Path) -> list[tuple[str, Margin]]:
    """``(pattern, margin)`` in the order of the file.

    Raises:
        ConfigError: for a file that is no list of {metric, scale, margin}.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: could not be read as YAML ({' '.join(str(error).split())[:120]})") from None
    try:
        return [Margin.read(entry) for entry in (entries if isinstance(entries, list) else [entries])]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def margin_of(metric: str, margins: Sequence[tuple[str, Margin]]) -> Margin | None:
    """The first of ``margins`` whose pattern fits ``metric`` without its part."""
    return next((m for pattern, m in margins if fnmatch.fnmatchcase(metric.partition("/")[2], pattern)), None)


def choose_metrics(runs: Sequence[Run], patterns: Sequence[str], margins: Sequence[tuple[str, Margin]]) -> list[Metric]:
    """The metrics to compare: those that fit ``patterns`` (in their order), or a few of the usual ones.

    Raises:
        ConfigError: for a pattern that fits no metric of any run.
    """
    entries: dict[str, dict[str, Any]] = {}
    for run in runs:
        for name, entry in run.summary.items():
            entries.setdefault(name, entry)
    names: dict[str, None] = {}
    for pattern in patterns:
        fitting = fnmatch.filter(entries, pattern)
        if not fitting and pattern.count("/") > 1:  # of single classes, which per_class.csv has
            of_classes = dict.fromkeys(name for run in runs for name in run.of_classes)
            fitting = fnmatch.filter(of_classes, pattern)
            entries |= {name: _of_class(name, entries) for name in fitting}
        if not fitting:
            raise ConfigError(f"--metrics {pattern}: no run has such a metric{nearest(pattern, entries)}")
        names |= dict.fromkeys(fitting)
    for part in () if patterns else ("test", "val"):
        names = names or dict.fromkeys(f"{part}/{m}" for m in MEASURES if f"{part}/{m}" in entries)
    return [
        Metric(
            name,
            entries[name].get("direction"),
            bool(entries[name].get("batch_dependent")),
            margin_of(name, margins),
        )
        for name in names or list(entries)[:MOST_UNNAMED]
    ]


def _of_class(name: str, entries: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What is known of a value of one class: what is known of its mean over the classes, or of it over all images."""
    part, measure, _ = name.split("/", 2)
    return next((entries[one] for one in (f"{part}/{measure}_mean", f"{part}/{measure}") if one in entries), {})


def undefined(runs: Sequence[Run], metrics: Sequence[Metric]) -> list[str]:
    """A line for each of ``metrics`` that some of ``runs`` have no value of, with their reasons."""
    out = []
    for metric in metrics:
        missing = [run for run in runs if run.metric(metric.name) is None]
        reasons = dict.fromkeys(str(r) for run in missing if (r := _reason(run, metric.name)))
        if missing:
            out.append(f"{metric.name}: {len(missing)} of {len(runs)} runs have no value" + _listed(reasons))
    return out


def _reason(run: Run, metric: str) -> str | None:
    """Why ``run`` has no value of ``metric``, where it says."""
    return run.summary[metric].get("reason") if metric in run.summary else run.classes_unread


def _listed(reasons: Mapping[str, None]) -> str:
    return f" ({'; '.join(list(reasons)[:3])})" if reasons else ""
