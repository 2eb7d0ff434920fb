"""What was found, as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from siamese.decoding.names import one_line
from siamese.index.index import Found, Index

SIDE = 1.35  # inches of a thumbnail
WIDEST = 10  # pictures in a row


def picture(index: Index, queries: Sequence[Path], results: Sequence[Sequence[Found]]) -> bytes:
    """A PNG file: each of ``queries`` with what was found for it beside and below, nearest first."""
    from matplotlib.figure import Figure
    from PIL import Image

    from siamese.index.building import thumbnail

    across = min(WIDEST, max(1, max(map(len, results))))
    rows = [max(1, -(-len(found) // across)) for found in results]
    figure = Figure(figsize=(SIDE * (across + 1), (SIDE + 0.45) * sum(rows)), layout="constrained")
    axes = figure.subplots(sum(rows), across + 1, squeeze=False)
    for one in axes.flat:
        one.set_axis_off()
    first = 0
    for query, found, count in zip(queries, results, rows, strict=True):
        axes[first, 0].imshow(Image.open(io.BytesIO(thumbnail(query))))
        axes[first, 0].set_title(_short(one_line(query.name)), fontsize=7, fontweight="bold", parse_math=False)
        if not found:
            axes[first, 1].text(0, 0.5, "unknown", fontsize=9, transform=axes[first, 1].transAxes)
        for rank, one in enumerate(found):
            place = axes[first + rank // across, 1 + rank % across]
            place.imshow(Image.open(io.BytesIO(index.stored.thumbnail(one.position))))
            called = _short(one_line(one.label or one.path.name))
            place.set_title(f"{called}\n{one.distance:.3f}", fontsize=7, parse_math=False)
        first += count
    file = io.BytesIO()
    figure.savefig(file, dpi=150)
    return file.getvalue()


def _short(text: str, most: int = 20) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
