"""What the figures share: the look of a class, the width of a text, and axes without clutter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.textpath import TextPath

# Petroff's ten colours (2021, arXiv:2107.02270), which stay apart with any colour vision.
COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
SAME, OTHER = COLOURS[0], COLOURS[2]  # of the same class as another image, or not
GREY = "#666666"
LONGEST = 24  # characters of a class name that a figure shows


def class_style(label: int) -> dict[str, Any]:
    """Colour and marker of the class with index ``label``: the first ten classes differ in both, the
    first 220 in the pair and its filling."""
    colour = COLOURS[label % len(COLOURS)]
    filled = label // (len(COLOURS) * len(MARKERS)) % 2 == 0
    return {
        "marker": MARKERS[label % len(MARKERS)],
        "markerfacecolor": colour if filled else "none",
        "markeredgecolor": "white" if filled else colour,
        "color": colour,
    }


def short(name: str) -> str:
    """``name``, cut to LONGEST characters."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def text_width(texts: Sequence[str], size: float) -> float:
    """The width in inches of the widest of ``texts`` at ``size`` points."""
    return (
        max((TextPath((0, 0), text, size=size).get_extents().width for text in texts if text.strip()), default=0) / 72
    )


def tidy(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
