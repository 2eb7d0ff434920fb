"""Figures as functions of arrays that return a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's eight colours and two greys: told apart with any colour vision.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#000000",
    "#F0E442",
    "#999999",
    "#5A5A9C",
)


def loss_curves(rows: Sequence[Mapping[str, str]], terms: Sequence[str]) -> Figure:
    """Each of ``terms`` against the epoch, in training and in validation, one panel a term."""
    shown = [t for t in terms if t == "loss" or len(terms) > 2]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.8 * len(shown), 3.6), squeeze=False, layout="constrained")
    for axis, term in zip(axes[0], shown, strict=True):
        for prefix, label, colour, marker in (("train", "training", 0, "o"), ("val", "validation", 1, "s")):
            points = [(int(r["epoch"]), float(r[f"{prefix}/{term}"])) for r in rows if r.get(f"{prefix}/{term}")]
            if points:
                axis.plot(*zip(*points, strict=True), color=COLOURS[colour], marker=marker, markersize=4, label=label)
        axis.set(xlabel="epoch", ylabel=term, title=term)
        axis.xaxis.get_major_locator().set_params(integer=True)
        _tidy(axis)
        axis.legend(frameon=False)
    return figure


def roc_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray, float]]) -> Figure:
    """ROC of each part: ``{part: (false positive rate, true positive rate, AUC)}``."""
    figure, axis = plt.subplots(figsize=(4.8, 4.6), layout="constrained")
    axis.plot([0, 1], [0, 1], color="#999999", linestyle=":", label="chance")
    for i, (part, (fpr, tpr, auc)) in enumerate(curves.items()):
        axis.plot(fpr, tpr, color=COLOURS[i], linestyle=("-", "--")[i % 2], label=f"{part}, AUC {auc:.3f}")
    axis.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.005), aspect="equal")
    axis.set_title("Same class or not, by cosine")
    _tidy(axis)
    axis.legend(frameon=False, loc="lower right")
    return figure


def sample_grid(images: Sequence[np.ndarray], names: Sequence[str]) -> Figure:
    """One row a class: ``images[i]`` uint8 [k, 3, H, W] of class ``names[i]``."""
    columns = max(len(row) for row in images)
    figure, axes = plt.subplots(
        len(images), columns, figsize=(1.3 + columns * 0.75, len(images) * 0.75), squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)  # type: ignore[union-attr, call-arg]
    for row, pictures, name in zip(axes, images, names, strict=True):
        for axis in row:
            axis.set_axis_off()
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(picture.transpose(1, 2, 0))
        row[0].text(-0.1, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=10)
    return figure


def triplet_grid(images: np.ndarray, names: Sequence[Sequence[str]]) -> Figure:
    """One row a triplet: ``images`` uint8 [T, 3, 3, H, W], with the class names of each role."""
    figure, axes = plt.subplots(len(images), 3, figsize=(4.2, 1.45 * len(images)), squeeze=False, layout="constrained")
    for i, (row, triplet, classes) in enumerate(zip(axes, images, names, strict=True)):
        for axis, picture, name, role in zip(row, triplet, classes, ("anchor", "positive", "negative"), strict=True):
            axis.imshow(picture.transpose(1, 2, 0))
            axis.set(xticks=[], yticks=[], xlabel=name)
            if i == 0:
                axis.set_title(role, fontsize=11)
            for side in axis.spines.values():
                side.set(color=COLOURS[5] if role == "negative" else COLOURS[2], linewidth=2)
    return figure


def _tidy(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
