"""The colours of every figure and page, in one place. No imports, so that whoever draws can have them."""

from __future__ import annotations

# Petroff's ten colours (2021, arXiv:2107.02270), which stay apart with any colour vision: the classes.
CLASSES = (
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
LINES = tuple(CLASSES[i] for i in (0, 2, 4, 6, 5, 8, 1, 3, 7, 9))  # those that thin lines can be seen in come first
LESS, MORE = CLASSES[6], CLASSES[0]  # than zero
SAME, OTHER = "#0b6e4f", "#d0006f"  # of the same class as another image, or not; no class has them
GREY = "#666666"
FAINT = "#c8ccd0"  # images of classes that are not told apart
LIGHT, DARK = "#ffffff", "#1a1d21"  # what is drawn on


def readable(colour: str, on: str, contrast: float = 3.0) -> str:
    """``colour``, as much darker on a light ground or lighter on a dark one as the ``contrast`` needs.

    The ratio of relative luminances of WCAG 2.2; 3 is asked of graphics (1.4.11), 4.5 of text (1.4.3).
    """
    towards = 0 if _luminance(rgb(on)) > 0.18 else 255
    for percent in range(101):
        mixed = tuple(round(c + (towards - c) * percent / 100) for c in rgb(colour))
        low, high = sorted((_luminance(mixed), _luminance(rgb(on))))
        if (high + 0.05) / (low + 0.05) >= contrast:
            break
    return "#" + "".join(f"{c:02x}" for c in mixed)


def rgb(colour: str) -> tuple[int, ...]:
    """Red, green and blue of ``#rrggbb``, 0 to 255."""
    return tuple(bytes.fromhex(colour[1:]))


def _luminance(channels: tuple[int, ...]) -> float:
    shares = [c / 255 for c in channels]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
