"""Pictures of the images themselves, laid out in inches so that every name has its room."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from siamese.figures.excerpt import largest
from siamese.figures.style import class_style, short, text_width
from siamese.palette import GREY, OTHER, SAME

PICTURE, GAP, MARGIN, MARK = 0.75, 0.1, 0.15, 0.2  # inches; MARK is the room of a class's marker
LINE = 0.17  # inches from a line of small print to the next
SMALL = 9  # points
ROLES = ("anchor", "positive", "negative")


def sample_grid(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], class_counts: np.ndarray | None = None
) -> Figure:
    """One row a class, and side by side where there are many; of more than can be seen, the largest.

    Args:
        images: uint8 [N, 3, H, W].
        labels: [N], indices into ``class_names`` (C names).
        class_counts: [C], the images of each class that these are some of; None counts these.
    """
    here = np.bincount(labels, minlength=len(class_names))
    excerpt = largest(here if class_counts is None else class_counts)
    names = {label: short(class_names[label]) for label in map(int, excerpt.labels) if here[label]}
    across = max(int(here[list(names)].max(initial=1)), 1)
    left = text_width(list(names.values()), 10) + MARK + 2 * GAP
    block = left + across * (PICTURE + GAP) + GAP
    lines = min(len(names), max(12, math.ceil(math.sqrt(len(names) * block / (PICTURE + GAP)))))
    blocks = -(-len(names) // lines)
    heading = 0.35 * bool(excerpt.words)
    width = max(blocks * block - GAP, text_width([excerpt.words], 12) * 1.05) + 2 * MARGIN
    figure, axis = sheet(width, heading + lines * (PICTURE + GAP) + 2 * MARGIN - GAP)
    if heading:
        axis.text(width / 2, MARGIN + 0.1, excerpt.words, ha="center", va="center", fontsize=12)
    for place, (label, name) in enumerate(names.items()):
        x = MARGIN + place // lines * block
        y = MARGIN + heading + place % lines * (PICTURE + GAP)
        class_name(axis, x, y + PICTURE / 2, label, name, 10)
        for i, image in enumerate(images[labels == label]):
            picture(axis, image, x + left + i * (PICTURE + GAP), y)
    return figure


def triplet_grid(
    images: np.ndarray, labels: np.ndarray, distances: np.ndarray, class_names: Sequence[str], title: str = ""
) -> Figure:
    """One line a triplet, in two halves side by side where there are more than five.

    Args:
        images: uint8 [T, 3, 3, H, W]: anchor, positive and negative of each.
        labels: [T, 3], indices into ``class_names``.
        distances: [T, 2], cosine distances of the anchor to the positive and to the negative, written
            under them unless they are NaN, which is not known yet.
    """
    names = names_of(class_names, labels)
    cell = max(PICTURE * 1.3, text_width(list(names.values()), SMALL) + MARK) + GAP
    known = np.isfinite(distances)
    high = PICTURE * 1.3 + LINE * (2 + bool(known.any()))
    blocks = 1 if len(images) <= 5 else 2
    lines = -(-len(images) // blocks)
    block = 3 * cell + 2 * GAP
    heading = 0.25 + 0.3 * bool(title)
    width = max(blocks * block - 2 * GAP, text_width([title], 12) * 1.05) + 2 * MARGIN
    figure, axis = sheet(width, heading + lines * high + 2 * MARGIN)
    if title:
        axis.text(width / 2, MARGIN + 0.1, title, ha="center", va="center", fontsize=12)
    for i, (triplet, of) in enumerate(zip(images, labels, strict=True)):
        x, y = MARGIN + i // lines * block, MARGIN + heading + i % lines * high
        for j, (image, label, role) in enumerate(zip(triplet, of, ROLES, strict=True)):
            left = x + j * cell
            middle = left + PICTURE * 0.65
            if i % lines == 0:
                axis.text(middle, y - 0.14, role, ha="center", va="center", fontsize=11)
            edge = (GREY, SAME, OTHER)[j]
            picture(axis, image, left, y, PICTURE * 1.3, edge, dashed=role == "negative")
            below = y + PICTURE * 1.3 + LINE * 0.75
            class_name(axis, left, below, int(label), names[int(label)], SMALL)
            if j and known[i, j - 1]:
                text = f"distance {distances[i, j - 1]:.2f}"
                axis.text(left, below + LINE, text, va="center", fontsize=SMALL)
    return figure


def hardest_triplets(
    images: np.ndarray, labels: np.ndarray, distances: np.ndarray, class_names: Sequence[str], part: str
) -> Figure:
    """The triplets whose negative is nearest, beyond their positive; see :func:`triplet_grid`."""
    return triplet_grid(images, labels, distances, class_names, f"Hardest triplets, {part} images")


def pair_grid(
    images: np.ndarray,
    labels: np.ndarray,
    distances: np.ndarray,
    threshold: float,
    class_names: Sequence[str],
    part: str,
) -> Figure:
    """One column a pair, its images below each other, and whether its distance tells what it is.

    Args:
        images, labels: uint8 [P, 2, 3, H, W] and [P, 2].
        distances: [P], Euclidean.
        threshold: the distance below which a pair counts as one of the same class.
    """
    names = names_of(class_names, labels)
    size = PICTURE * 1.3
    cell = max(size, text_width(list(names.values()), SMALL) + MARK) + 2 * GAP
    title = f"Pairs of {part} images; one class if nearer than {float(threshold):g}"
    width = max(len(images) * cell, text_width([title], 12) * 1.05) + 2 * MARGIN
    high = size + LINE * 1.5
    figure, axis = sheet(width, 0.5 + 2 * high + LINE + 2 * MARGIN)
    axis.text(width / 2, MARGIN + 0.12, title, ha="center", va="center", fontsize=12)
    for i, (pair, of, distance) in enumerate(zip(images, labels, distances, strict=True)):
        x, same = MARGIN + i * cell, of[0] == of[1]
        right = (distance < threshold) == same
        for j, (image, label) in enumerate(zip(pair, of, strict=True)):
            y = MARGIN + 0.5 + j * high
            picture(axis, image, x, y, size, SAME if same else OTHER, dashed=not same)
            class_name(axis, x, y + size + LINE * 0.75, int(label), names[int(label)], SMALL)
        text, colour = f"{'✓' if right else '✗'} {distance:.2f}", SAME if right else OTHER
        axis.text(x, MARGIN + 0.5 + 2 * high + LINE * 0.5, text, va="center", fontsize=SMALL, color=colour)
    return figure


def gallery(
    query_images: np.ndarray,
    query_labels: np.ndarray,
    neighbour_images: np.ndarray,
    neighbour_labels: np.ndarray,
    cosines: np.ndarray,
    class_names: Sequence[str],
    part: str,
) -> Figure:
    """One line a query: its nearest neighbours from left to right, each marked right or wrong.

    Args:
        query_images, query_labels: uint8 [Q, 3, H, W] and [Q].
        neighbour_images, neighbour_labels: uint8 [Q, K, 3, H, W] and [Q, K], nearest first.
        cosines: [Q, K], of query and neighbour.
    """
    asked, names = names_of(class_names, query_labels), names_of(class_names, neighbour_labels)
    wrong = neighbour_labels != np.asarray(query_labels)[:, None]
    cell = max(PICTURE, text_width([names[i] for i in map(int, np.unique(neighbour_labels[wrong]))], SMALL - 1)) + GAP
    left = text_width(list(asked.values()), 10) + MARK + 2 * GAP
    first = left + PICTURE + 3 * GAP
    high = PICTURE + 2 * LINE + GAP
    count, across = cosines.shape
    title = f"Nearest neighbours among {part} images, by cosine"
    if len(asked) < len(class_names):
        title += f"; images of {len(asked)} of {len(class_names):,} classes"
    width = max(first + across * cell, text_width([title], 12) * 1.05) + 2 * MARGIN
    figure, axis = sheet(width, 0.5 + count * high + 2 * MARGIN)
    axis.text(width / 2, MARGIN + 0.15, title, ha="center", va="center", fontsize=12)
    for i, label in enumerate(map(int, query_labels)):
        y = MARGIN + 0.5 + i * high
        class_name(axis, MARGIN, y + PICTURE / 2, label, asked[label], 10)
        picture(axis, query_images[i], MARGIN + left, y)
        for j in range(across):
            x = MARGIN + first + j * cell
            colour, sign = (OTHER, "✗") if wrong[i, j] else (SAME, "✓")
            picture(axis, neighbour_images[i, j], x, y, PICTURE, colour, dashed=bool(wrong[i, j]))
            below = y + PICTURE + LINE * 0.75
            axis.text(x, below, f"{sign} {cosines[i, j]:.2f}", va="center", fontsize=SMALL, color=colour)
            if wrong[i, j]:
                axis.text(x, below + LINE * 0.9, names[int(neighbour_labels[i, j])], va="center", fontsize=SMALL - 1)
    return figure


def names_of(class_names: Sequence[str], labels: np.ndarray) -> dict[int, str]:
    """The classes that are shown, by their labels; there may be many more. An image may have none."""
    return {label: short(class_names[label]) if label >= 0 else "no class" for label in map(int, np.unique(labels))}


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of so many inches, and axes over all of it that count inches from its top left."""
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    return figure, axis


def picture(
    axis: Axes, image: np.ndarray, x: float, y: float, size: float = PICTURE, edge: str = "", dashed: bool = False
) -> None:
    axis.imshow(image.transpose(1, 2, 0), extent=(x, x + size, y + size, y), aspect="auto")
    if edge:
        dashes = (0, (2, 1)) if dashed else "solid"
        frame = Rectangle((x, y), size, size, fill=False, edgecolor=edge, linewidth=2.5, linestyle=dashes)
        axis.add_patch(frame)


def class_name(axis: Axes, x: float, y: float, label: int, name: str, size: float) -> None:
    """The name of a class after its marker, both in the middle of the line at ``y``."""
    axis.plot([x + MARK / 2], [y], **class_style(label, size * 0.8))
    axis.text(x + MARK, y, name, va="center", fontsize=size)
