"""Where an embedding puts the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, ScaledTranslation

from siamese.figures.excerpt import EXCERPT, WHOLE, Excerpt, largest, most_confused, nearest_distances
from siamese.figures.style import class_style, short, text_width, tidy
from siamese.palette import FAINT, GREY, LINES, OTHER, SAME

WRITTEN = 25  # classes up to which every cell of a distance matrix has its number
KEYS = 22  # lines of a key of classes
FAR = 0.5  # the colours of a distance matrix reach at least so far
NEAR = 0.1  # where all classes are nearer to each other than this, a matrix says so


def distance_matrix(matrix: np.ndarray, class_names: Sequence[str], part: str) -> Figure:
    """Heat map of the mean cosine distances [C, C] between classes, or between the most confused of many; what is NaN
    stays grey. Its colours begin at 0 and reach to 0.5 or more, so that classes at one place look like it."""
    shown = np.arange(len(matrix))
    lines = [f"Distances between classes, {part} images"]
    if len(matrix) > WHOLE:
        excerpt = most_confused(nearest_distances(matrix))
        shown = excerpt.labels
        lines += [excerpt.words] * bool(excerpt.words)
    matrix, names = matrix[np.ix_(shown, shown)], [short(class_names[label]) for label in map(int, shown)]
    known = matrix[np.isfinite(matrix)]
    farthest = float(known.max(initial=0.0))
    if len(names) > 1 and len(known) and farthest < NEAR:
        lines.append(f"nearly collapsed: none is farther than {farthest:.3f}")
    count = len(matrix)
    cell = max(0.2, 0.5 - 0.012 * max(0, count - 10))
    fontsize = 10 if count <= WRITTEN else 7
    width = max(2.5, cell * count) + text_width(names, fontsize)
    figure = Figure(figsize=(width + 1.6, width + 0.6), layout="compressed")
    axis = figure.subplots()
    axis.set_facecolor("#dddddd")
    high = max(FAR, farthest)
    colours = axis.imshow(matrix, cmap="viridis", vmin=0, vmax=high)
    figure.colorbar(colours, ax=axis, label="mean cosine distance", shrink=0.8)
    if count <= WRITTEN:
        for (i, j), value in np.ndenumerate(matrix):
            text, dark = (f"{value:.2f}", value < 0.45 * high) if np.isfinite(value) else ("–", False)
            size = 9 * min(1, cell / 0.5)
            axis.text(j, i, text, ha="center", va="center", fontsize=size, color="white" if dark else "black")
    axis.set_xticks(range(count), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=fontsize)
    axis.set_yticks(range(count), names, fontsize=fontsize)
    axis.tick_params(length=0, pad=14)
    axis.autoscale(False)
    for place, label in enumerate(map(int, shown)):
        style = class_style(label, fontsize * 0.75)
        for x, y, along, shift in (
            (place, 0, axis.get_xaxis_transform(), (0, -8)),
            (0, place, axis.get_yaxis_transform(), (-8, 0)),
        ):
            by = ScaledTranslation(shift[0] / 72, shift[1] / 72, figure.dpi_scale_trans)
            axis.plot([x], [y], transform=along + by, clip_on=False, **style)
    axis.set_title("\n".join(lines))
    return figure


def nearest_classes(nearest: np.ndarray, distances: np.ndarray, class_names: Sequence[str], part: str) -> Figure:
    """The pairs of classes nearest to each other, a line each, where there are too many classes for a matrix.

    Args:
        nearest: [C, K], the classes nearest to each class.
        distances: [C, K], their mean cosine distances; NaN where there is none.
    """
    known = np.isfinite(distances) & (nearest >= 0) & (nearest < len(nearest))
    pairs = np.sort(np.stack([np.nonzero(known)[0], nearest[known]], axis=1), axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], distances[known]))
    kept = list(dict.fromkeys(map(tuple, pairs[order[: 4 * EXCERPT]].tolist())))[:EXCERPT]  # each is there twice
    found = {
        (one, other): away for (one, other), away in zip(pairs[order].tolist(), distances[known][order], strict=True)
    }
    names = [f"{short(class_names[one])}  –  {short(class_names[other])}" for one, other in kept]
    figure = Figure(figsize=(4.6 + text_width(names, 9), 1.2 + 0.26 * max(len(kept), 1)), layout="constrained")
    axis = figure.subplots()
    away = [float(found[pair]) for pair in kept]
    axis.hlines(range(len(kept)), 0, away, color=GREY, linewidth=1)
    axis.plot(away, range(len(kept)), "o", color=OTHER, markersize=5)
    axis.set_yticks(range(len(kept)), names, fontsize=9)
    for place, value in enumerate(away):
        axis.annotate(f"{value:.3g}", (value, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set(
        xlabel="mean cosine distance", xlim=(0, max(away, default=0.0) * 1.15 or 1.0), ylim=(len(kept) - 0.5, -0.5)
    )
    axis.set_title(
        f"Classes nearest to each other, {part} images\nthe {len(kept)} nearest pairs of {len(nearest):,} classes"
    )
    tidy(axis)
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
    coverage: float | None = None,
    excerpt: Excerpt | None = None,
) -> Figure:
    """The embeddings in their two principal components, and an ellipse around the middle of each class.

    Args:
        points: [N, 2].
        labels: [N], indices into ``class_names`` (C names).
        ellipses: ``centres`` [C, 2], ``widths`` and ``heights`` [C] (full axes), ``angles`` [C] (radians,
            of the width from the first component); a class without a finite ellipse is drawn without.
        explained: [2], the share of the variance in each component.
        normalised: stretch both components to [0, 1], the ellipses with them.
        coverage: the share of a class's images that its ellipse holds, for the title.
        excerpt: the classes that are told apart; the images of the others are grey. None takes all, or the largest
            of many.
    """
    excerpt = excerpt or largest(np.bincount(labels[labels >= 0], minlength=len(class_names)))
    low, span = points.min(0), np.ptp(points, 0)
    stretch = Affine2D()
    if normalised:
        stretch.translate(*-low).scale(*1 / np.where(span > 0, span, 1))
    shown = stretch.transform(points)
    key = [Line2D([], [], label=short(class_names[c]), **class_style(c, 8)) for c in map(int, excerpt.labels)]
    others = ~np.isin(labels, excerpt.labels)
    dot: dict[str, Any] = {"linestyle": "none", "marker": ".", "color": FAINT}
    if others.any():
        key.append(Line2D([], [], label="other classes", **dot))
    columns = max(1, -(-len(key) // KEYS))
    wide = columns * (text_width([str(line.get_label()) for line in key], 10) + 0.6)
    figure = Figure(figsize=(6 + wide, 6.1), layout="compressed")
    axis = figure.subplots()
    if others.any():
        axis.plot(*shown[others].T, markersize=3, rasterized=True, zorder=1, **dot)
    alpha = float(np.clip(40 / np.sqrt(len(points)), 0.25, 0.8))
    low, high = shown.min(0), shown.max(0)
    for label in map(int, excerpt.labels):
        style = class_style(label, 3.8) | {"markeredgewidth": 0.3, "alpha": alpha, "rasterized": True}
        axis.plot(*shown[labels == label].T, **style)
    for label in map(int, excerpt.labels):
        centre, width, height, angle = (ellipses[of][label] for of in ("centres", "widths", "heights", "angles"))
        if not np.isfinite([*centre, width, height, angle]).all():
            continue
        style = class_style(label, 10)
        outline = Ellipse(centre, width, height, angle=np.degrees(angle), linewidth=2, zorder=3)
        outline.set(edgecolor=style["color"], facecolor=to_rgba(style["color"], 0.06))
        outline.set(path_effects=[withStroke(linewidth=4, foreground="white")], transform=stretch + axis.transData)
        axis.add_patch(outline)
        axis.plot(*stretch.transform(centre), zorder=4, **style | {"markeredgecolor": "white"})
        turned = np.array([[np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        half = np.linalg.norm(turned * (width / 2, height / 2), axis=1)
        corners = stretch.transform([centre - half, centre + half])
        low, high = np.minimum(low, corners[0]), np.maximum(high, corners[1])
    one, two = (
        f"{name} ({share:.0%} of the variance)" for name, share in zip(("PC 1", "PC 2"), explained, strict=True)
    )
    lines = [f"Principal components of {part} images" + ", normalised" * normalised]
    if coverage is not None and axis.patches:
        lines.append(f"each ellipse holds {100 * coverage:g} % of its class")
    lines += [excerpt.words] * bool(excerpt.words)
    axis.set(xlabel=one, ylabel=two, title="\n".join(lines))
    middle, reach = (low + high) / 2, (high - low).max() * 0.52 or 1.0
    axis.set(xlim=middle[0] + [-reach, reach], ylim=middle[1] + [-reach, reach], aspect="equal")
    tidy(axis)
    figure.legend(handles=key, loc="outside right upper", frameon=False, ncols=columns, handletextpad=0.2)
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
