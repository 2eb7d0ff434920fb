"""What the figures share: the look of a class, the width of a text, and axes without clutter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from siamese.palette import CLASSES

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p")
LONGEST = 24  # characters of a class name that a figure shows


def class_style(label: int, size: float) -> dict[str, Any]:
    """The marker of the class with index ``label``, about ``size`` points wide: the first ten classes
    differ in colour and in shape, the first 220 in the pair of them and whether it is filled."""
    colour, shape = CLASSES[label % len(CLASSES)], MARKERS[label % len(MARKERS)]
    filled = label // (len(CLASSES) * len(MARKERS)) % 2 == 0
    return {
        "linestyle": "none",
        "color": colour,
        "marker": shape,
        "markersize": size * {"*": 1.35, "D": 0.85, "s": 0.95, "P": 1.1, "X": 1.1}.get(shape, 1),
        "markerfacecolor": colour if filled else "none",
        "markeredgecolor": colour,
    }


def short(name: str) -> str:
    """``name`` as matplotlib shows it, cut in its middle to LONGEST characters (long names often begin alike).

    A dollar sign begins no formula, what cannot be printed is a �, and a name that begins with an underscore, which a
    legend would leave out, begins with a space.
    """
    cut = name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[1 - LONGEST // 2 :]}"
    shown = "".join(letter if letter.isprintable() else "�" for letter in cut).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def text_width(texts: Sequence[str], size: float) -> float:
    """The width in inches of the widest of ``texts`` at ``size`` points."""
    font = FontProperties(size=size)
    return max((text_to_path.get_text_width_height_descent(t, font, False)[0] for t in texts), default=0) / 72


def tidy(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
