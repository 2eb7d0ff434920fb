"""How training went, and how well pairs are told apart: curves."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from siamese.figures.style import MARKERS, tidy
from siamese.palette import GREY, LINES

Rows = Sequence[Mapping[str, str]]
# Metrics that share a panel: its title, and what their names have in common (the rest is their label).
FAMILIES = {
    "cosine": r"cos_(.+)",
    "Euclidean distance": r"euclid_(.+)",
    "TAR at FAR": r"tar_at_far_(.+)",
    "cosine, all pairs": r"pairs_cos_(.+)",
    "Euclidean distance, all pairs": r"pairs_euclid_(.+)",
    "TAR at FAR, all pairs": r"pairs_tar_at_far_(.+)",
    "recall at k": r"recall_at_(.+)",
    "kNN accuracy": r"knn_(.+)",
    "class distances": r"(intra|inter|separation)(?:_distance)?",
    "class distances, spread": r"(intra|inter|separation)(?:_distance)?_std",
    "distance to the nearest neighbour": r"nn_distance_(.+)",
}
SPLITS = (("train", "training"), ("val", "validation"))


def loss_curves(rows: Rows, terms: Sequence[str]) -> Figure:
    """The loss and each of its terms against the epoch, in training and in validation, one panel each.

    Args:
        rows: those of metrics.csv, with columns ``train/TERM`` and ``val/TERM``.
        terms: "loss" and the names of its terms; a single term is the loss itself, and not repeated.
    """
    shown = [term for term in terms if term == "loss" or len(terms) > 2]
    figure, panels = _panels(len(shown))
    for axis, term in zip(panels, shown, strict=True):
        for i, (prefix, label) in enumerate(SPLITS):
            _curve(axis, rows, f"{prefix}/{term}", label, i)
        axis.set_title("total loss" if term == "loss" else term.replace("_", " "))
    _legend(panels)
    return figure


def metric_curves(rows: Rows) -> Figure:
    """Every validation metric against the epoch; relatives, such as recall at 1, 5 and 10, share a panel.

    Args:
        rows: those of metrics.csv. The columns ``val/NAME`` that have no ``train/NAME`` are drawn, but for
            those of single classes (``val/NAME/CLASS``).
    """
    columns = dict.fromkeys(column for row in rows for column, value in row.items() if value)
    panels: dict[str, dict[str, str]] = {}
    for column in columns:
        split, _, name = column.partition("/")
        if split != "val" or f"train/{name}" in columns or "/" in name:
            continue
        kin = ((title, re.fullmatch(pattern, name)) for title, pattern in FAMILIES.items())
        title, label = next(((title, found[1]) for title, found in kin if found), (name.replace("_", " "), ""))
        panels.setdefault(title, {})[column] = label
    figure, axes = _panels(len(panels))
    for axis, (title, members) in zip(axes, panels.items(), strict=True):
        for i, (column, label) in enumerate(members.items()):
            _curve(axis, rows, column, label.replace("_", " "), 1 if len(members) == 1 else i)
        axis.set_title(title)
        if len(members) > 1:
            axis.legend(frameon=False, fontsize=9)
    figure.suptitle("Validation metrics")
    return figure


def roc_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """ROC of each part, on a linear and on a logarithmic axis of false positive rates.

    Args:
        curves: ``{part: (false positive rates [K], true positive rates [K], AUC)}``.
    """
    figure = Figure(figsize=(8.6, 4.5), layout="constrained")
    figure.suptitle("Same class or not, by cosine")
    linear, logarithmic = figure.subplots(1, 2)
    rates = np.concatenate([fpr for fpr, _, _ in curves.values()])
    lowest = 10.0 ** math.floor(math.log10(rates[rates > 0].min(initial=0.1) * 1.0001))
    chance = np.geomspace(lowest, 1, 200)
    for axis in (linear, logarithmic):
        axis.plot([0, *chance], [0, *chance], color=GREY, linestyle=":", label="chance")
        for i, (part, (fpr, tpr, auc)) in enumerate(curves.items()):
            style = {"color": LINES[i % 2], "linestyle": ("-", "--")[i % 2]}
            axis.plot(fpr, tpr, linewidth=1.8, label=f"{part}, AUC {auc:.3f}", **style)
        axis.set(xlabel="false positive rate", ylabel="true positive rate", ylim=(0, 1.01))
        tidy(axis)
    linear.set(xlim=(-0.005, 1))
    logarithmic.set(xscale="log", xlim=(lowest, 1), xlabel="false positive rate, logarithmic")
    linear.legend(frameon=False, loc="lower right")
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, at most three in a row, over epochs."""
    columns = 2 if count in (2, 4) else min(3, max(count, 1))
    lines = -(-count // columns) or 1
    size = ((0, 5.6, 8.6, 9.6)[columns], lines * (3.8, 3.4, 2.9)[columns - 1] + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    every = figure.subplots(lines, columns, squeeze=False).flatten().tolist()
    for axis in every[count:]:
        axis.remove()
    for axis in every[:count]:
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
        tidy(axis)
    return figure, every[:count]


def _curve(axis: Axes, rows: Rows, column: str, label: str, place: int) -> None:
    points = [(int(row["epoch"]), float(row[column])) for row in rows if row.get(column)]
    if points:
        marker = MARKERS[place % len(MARKERS)] if len(points) <= 40 else None
        colour = LINES[place % len(LINES)]
        axis.plot(*zip(*points, strict=True), color=colour, marker=marker, markersize=4.5, linewidth=1.8, label=label)


def _legend(panels: Sequence[Axes]) -> None:
    for axis in panels:
        if axis.lines:
            axis.legend(frameon=False)
