"""Where an embedding puts the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, ScaledTranslation

from siamese.figures.style import class_style, short, text_width, tidy
from siamese.palette import LINES, OTHER, SAME

WRITTEN = 25  # classes up to which every cell of a distance matrix has its number
KEYS = 22  # lines of a key of classes


def distance_matrix(matrix: np.ndarray, class_names: Sequence[str], part: str) -> Figure:
    """Heat map of the mean cosine distances [C, C] between classes; what is NaN stays grey."""
    count, names = len(matrix), [short(name) for name in class_names]
    cell = max(0.2, 0.5 - 0.012 * max(0, count - 10))
    fontsize = 10 if count <= WRITTEN else 7
    width = max(2.5, cell * count) + text_width(names, fontsize)
    figure = Figure(figsize=(width + 1.6, width + 0.6), layout="compressed")
    axis = figure.subplots()
    axis.set_facecolor("#dddddd")
    colours = axis.imshow(matrix, cmap="viridis")
    figure.colorbar(colours, ax=axis, label="mean cosine distance", shrink=0.8)
    if count <= WRITTEN:
        low, high = colours.get_clim()
        for (i, j), value in np.ndenumerate(matrix):
            text, dark = (f"{value:.2f}", value < low + 0.45 * (high - low)) if np.isfinite(value) else ("–", False)
            size = 9 * min(1, cell / 0.5)
            axis.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    axis.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=fontsize)
    axis.set_yticks(range(count), names, fontsize=fontsize)
    axis.tick_params(length=0, pad=14)
    axis.autoscale(False)
    for label in range(count):
        style = class_style(label, fontsize * 0.75)
        for x, y, along, shift in (
            (label, 0, axis.get_xaxis_transform(), (0, -8)),
            (0, label, axis.get_yaxis_transform(), (-8, 0)),
        ):
            by = ScaledTranslation(shift[0] / 72, shift[1] / 72, figure.dpi_scale_trans)
            axis.plot([x], [y], transform=along + by, clip_on=False, **style)
    axis.set_title(f"Distances between classes, {part} images")
    return figure


def projection(
    points: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    ellipses: Mapping[str, np.ndarray],
    explained: np.ndarray,
    part: str,
    *,
    normalised: bool = False,
) -> Figure:
    """The embeddings in their two principal components, and an ellipse around the middle of each class.

    Args:
        points: [N, 2].
        labels: [N], indices into ``class_names`` (C names).
        ellipses: ``centres`` [C, 2], ``widths`` and ``heights`` [C] (full axes), ``angles`` [C] (radians,
            of the width from the first component); a class without a finite ellipse is drawn without.
        explained: [2], the share of the variance in each component.
        normalised: stretch both components to [0, 1], the ellipses with them.
    """
    low, span = points.min(0), np.ptp(points, 0)
    stretch = Affine2D()
    if normalised:
        stretch.translate(*-low).scale(*1 / np.where(span > 0, span, 1))
    shown = stretch.transform(points)
    columns = -(-len(class_names) // KEYS)
    key = columns * (text_width([short(name) for name in class_names], 10) + 0.6)
    figure = Figure(figsize=(6 + key, 5.9), layout="compressed")
    axis = figure.subplots()
    alpha = float(np.clip(40 / np.sqrt(len(points)), 0.25, 0.8))
    for label in map(int, np.unique(labels)):
        style = class_style(label, 3.8) | {"markeredgewidth": 0.3, "alpha": alpha, "rasterized": True}
        axis.plot(*shown[labels == label].T, **style)
    shapes = (ellipses[key] for key in ("centres", "widths", "heights", "angles"))
    for label, (centre, width, height, angle) in enumerate(zip(*shapes, strict=True)):
        style = class_style(label, 10)
        if np.isfinite([*centre, width, height, angle]).all():
            outline = Ellipse(centre, width, height, angle=np.degrees(angle), fill=False, linewidth=2, zorder=3)
            outline.set(edgecolor=style["color"], path_effects=[withStroke(linewidth=4, foreground="white")])
            outline.set_transform(stretch + axis.transData)
            axis.add_patch(outline)
            axis.plot(*stretch.transform(centre), zorder=4, **style | {"markeredgecolor": "white"})
    one, two = (
        f"{name} ({share:.0%} of the variance)" for name, share in zip(("PC 1", "PC 2"), explained, strict=True)
    )
    axis.set(xlabel=one, ylabel=two, title=f"Principal components of {part} images" + ", normalised" * normalised)
    middle, reach = (shown.min(0) + shown.max(0)) / 2, np.ptp(shown, 0).max() * 0.52 or 1.0
    axis.set(xlim=middle[0] + [-reach, reach], ylim=middle[1] + [-reach, reach], aspect="equal")
    tidy(axis)
    keys = [Line2D([], [], label=short(name), **class_style(label, 8)) for label, name in enumerate(class_names)]
    figure.legend(handles=keys, loc="outside right upper", frameon=False, ncols=columns, handletextpad=0.2)
    return figure


def spectrum(values: Mapping[str, np.ndarray]) -> Figure:
    """Singular values of the embeddings of each part, sorted, as shares of the largest.

    Args:
        values: ``{part: singular values [min(N, D)]}``.
    """
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axis = figure.subplots()
    lowest = 1.0
    for (part, found), colour, dashes in zip(values.items(), LINES, ("-", "--"), strict=False):
        shares = np.sort(found)[::-1] / (found.max(initial=0.0) or 1.0)
        lowest = min(lowest, shares[shares > 1e-6].min(initial=1.0))
        axis.plot(range(1, len(shares) + 1), shares, color=colour, linestyle=dashes, linewidth=1.8, label=part)
    axis.set(xlabel="dimension, by size", ylabel="singular value / largest", title="Spectrum of the embeddings")
    axis.set(yscale="log", ylim=(lowest * 0.7, 1.4))
    axis.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))
    tidy(axis)
    axis.legend(frameon=False)
    return figure


def similarity_histogram(edges: np.ndarray, positive: np.ndarray, negative: np.ndarray, part: str) -> Figure:
    """How alike pairs of the same class are, and pairs of different classes, each as a density.

    Args:
        edges: [K+1], of the bins, in cosines.
        positive, negative: [K], pairs of images of the same class and of different classes.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    middles, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    for counts, name, colour, dashes in (
        (positive, "same class", SAME, "-"),
        (negative, "different classes", OTHER, "--"),
    ):
        total = counts.sum()
        if not total:
            continue
        mean = float((counts * middles).sum() / total)
        label = f"{name}, mean {mean:.2f}"
        axis.stairs(counts / total / widths, edges, fill=True, color=colour, alpha=0.25)
        axis.stairs(counts / total / widths, edges, color=colour, linestyle=dashes, linewidth=1.8, label=label)
        axis.axvline(mean, color=colour, linestyle=":", linewidth=1.5)
    axis.set(xlabel="cosine of two images", ylabel="density", title=f"Pairs of {part} images")
    axis.set_ylim(bottom=0)
    occupied = np.flatnonzero(positive + negative)
    if len(occupied):
        axis.set_xlim(edges[occupied[0]] - widths[0], edges[occupied[-1] + 1] + widths[-1])
    tidy(axis)
    axis.legend(frameon=False)
    return figure
