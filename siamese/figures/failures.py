"""A picture of the queries that an embedding fails worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from siamese.figures.images import GAP, LINE, MARGIN, MARK, PICTURE, SMALL, class_name, names_of, picture, sheet
from siamese.figures.style import text_width
from siamese.palette import OTHER, SAME

HEADINGS = ("query", "nearest: wrong", "first of its class")


def failures(
    images: np.ndarray,
    labels: np.ndarray,
    cosines: np.ndarray,
    ranks: np.ndarray,
    class_names: Sequence[str],
    part: str,
) -> Figure:
    """One line a query: itself, the image nearest to it, which is of another class, and the first of its own.

    Args:
        images: uint8 [F, 3, 3, H, W], of each: query, nearest and first right one.
        labels: [F, 3], indices into ``class_names``; the nearest may have none, which is below 0.
        cosines: [F, 2], of the query with the other two.
        ranks: [F], how many images are as near as the first right one.
    """
    names = names_of(class_names, labels)
    size = PICTURE * 1.3
    cell = max(size, text_width([*names.values(), *HEADINGS], SMALL + 1) + MARK) + 2 * GAP
    high = size + LINE * 2.4
    title = f"Worst failures, {part} images"
    width = max(3 * cell, text_width([title], 12) * 1.05) + 2 * MARGIN
    top = MARGIN + 0.6
    figure, axis = sheet(width, top + len(images) * high + MARGIN)
    axis.text(width / 2, MARGIN + 0.1, title, ha="center", va="center", fontsize=12)
    for i, (three, of, cosine, rank) in enumerate(zip(images, labels, cosines, ranks, strict=True)):
        y = top + i * high
        texts = ("", f"\N{BALLOT X} cosine {cosine[0]:.2f}", f"cosine {cosine[1]:.2f}, rank {rank:,}")
        for j, (image, label, text) in enumerate(zip(three, of, texts, strict=True)):
            x, colour = MARGIN + j * cell, ("", OTHER, SAME)[j]
            if not i:
                axis.text(x, MARGIN + 0.42, HEADINGS[j], va="center", fontsize=SMALL + 1)
            picture(axis, image, x, y, size, colour, dashed=j == 1)
            below = y + size + LINE * 0.75
            class_name(axis, x, below, int(label), names[int(label)], SMALL)
            axis.text(x, below + LINE * 0.95, text, va="center", fontsize=SMALL, color=colour or "black")
    return figure
