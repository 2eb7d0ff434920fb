"""Drawing in SVG: elements without inline styles (the page's policy forbids them), and axes in data coordinates.

Colours come from classes of the page's style sheet where they follow the theme (``g0`` to ``g9`` for groups), so
one drawing serves light, dark and print; text is real text, sized for a panel as wide as a phone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from markupsafe import Markup

Number = float | int
WIDTH, HEIGHT = 340, 230  # of a panel, in CSS pixels
MARGINS = (12, 10, 38, 48)  # top, right, bottom, left


class Drawing:
    """A growing list of elements."""

    def __init__(self, width: Number, height: Number, label: str, css: str = "") -> None:
        self.width, self.height, self.label, self.css = width, height, label, css
        self.elements: list[Markup] = []

    def add(self, tag: str, body: str | None = None, /, **attributes: object) -> None:
        """Append ``<tag attributes>body</tag>``; underscores in names become dashes (``css`` becomes class)."""
        self.elements.append(element(tag, body, **attributes))

    def text(self, x: Number, y: Number, body: str, css: str = "", anchor: str = "middle", **more: object) -> None:
        self.add("text", body, x=short(x), y=short(y), text_anchor=anchor, css=css or None, **more)

    def box(self, x: Number, y: Number, width: Number, height: Number, css: str, **more: object) -> None:
        self.add("rect", x=short(x), y=short(y), width=short(width), height=short(height), css=css, **more)

    def open(self, **attributes: object) -> None:
        self.elements.append(Markup(str(element("g", "", **attributes))[: -len("</g>")]))

    def close(self) -> None:
        self.elements.append(Markup("</g>"))

    def markup(self) -> Markup:
        return element(
            "svg",
            Markup("").join(self.elements),
            css=f"drawing {self.css}".strip(),
            viewBox=f"0 0 {short(self.width)} {short(self.height)}",
            width=short(self.width),
            height=short(self.height),
            role="img",
            aria_label=self.label,
        )


class Axes:
    """A frame with ticks; maps data to its pixels."""

    def __init__(
        self,
        drawing: Drawing,
        x: tuple[float, float],
        y: tuple[float, float],
        labels: tuple[str, str] = ("", ""),
        log_x: bool = False,
        whole_x: bool = False,
        margins: tuple[int, int, int, int] = MARGINS,
    ) -> None:
        self.drawing, self.log_x, self.whole_x = drawing, log_x, whole_x
        top, right, bottom, left = margins
        self.left, self.right = left, float(drawing.width) - right
        self.top, self.bottom = top, float(drawing.height) - bottom
        self.x_range = (math.log10(x[0]), math.log10(x[1])) if log_x else _widened(*x)
        self.y_range = _widened(*y)
        self._frame(*labels)

    def x(self, value: float) -> float:
        value = math.log10(max(value, 1e-300)) if self.log_x else value
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def _frame(self, x_label: str, y_label: str) -> None:
        d = self.drawing
        d.open(css="axis")
        if self.log_x:
            x_ticks = [10.0**e for e in range(math.ceil(self.x_range[0]), math.floor(self.x_range[1]) + 1)]
        else:
            x_ticks = ticks(*self.x_range, 5, self.whole_x)
        y_ticks = ticks(*self.y_range, 5)
        for value in y_ticks:
            d.add("path", d=f"M{short(self.left)} {short(self.y(value))}H{short(self.right)}", css="grid")
        x_texts, y_texts = tick_texts(x_ticks, self.log_x), tick_texts(y_ticks)
        for value, body in zip(x_ticks, x_texts, strict=True):
            d.text(self.x(value), self.bottom + 14, body)
        for value, body in zip(y_ticks, y_texts, strict=True):
            d.text(self.left - 6, self.y(value) + 3.5, body, anchor="end")
        d.add("path", d=f"M{short(self.left)} {short(self.bottom)}H{short(self.right)}", css="base")
        d.text((self.left + self.right) / 2, self.bottom + 31, x_label, css="name")
        if y_label:
            middle = (self.top + self.bottom) / 2
            d.text(11, middle, y_label, css="name", transform=f"rotate(-90 11 {short(middle)})")
        d.close()

    def clip(self, name: str) -> None:
        """Open a group that shows nothing outside the frame; ``name`` is its identity in the page."""
        box = {"x": self.left, "y": self.top, "width": self.right - self.left, "height": self.bottom - self.top}
        self.drawing.add("clipPath", element("rect", **{k: short(v) for k, v in box.items()}), id=name)
        self.drawing.open(clip_path=f"url(#{name})")

    def line(self, xs: Iterable[float], ys: Iterable[float], css: str) -> None:
        self.drawing.add("path", d=self.path(xs, ys), css=css)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], css: str) -> None:
        """The area between two curves."""
        forth, back = self.path(xs, low), self.path(reversed(xs), reversed(high))
        self.drawing.add("path", d=f"{forth}L{back[1:]}Z", css=css)

    def dots(self, points: np.ndarray, css: str) -> None:
        """``points`` [n, 2] as round caps of strokes without length, which take ten bytes each."""
        places = (f"M{short(self.x(x))} {short(self.y(y))}h0" for x, y in points)
        self.drawing.add("path", d="".join(places), css=css)

    def path(self, xs: Iterable[float], ys: Iterable[float]) -> str:
        places = (f"{short(self.x(x))} {short(self.y(y))}" for x, y in zip(xs, ys, strict=True))
        return "M" + "L".join(places)


def element(tag: str, body: str | None = None, /, **attributes: object) -> Markup:
    """One element, its attributes and its body escaped (a body that is Markup stays)."""
    out = Markup("<") + Markup(tag)
    for name, value in attributes.items():
        if value is not None:
            name = {"css": "class"}.get(name, name.replace("_", "-"))
            out += Markup(' {}="{}"').format(Markup(name), value)
    if body is None:
        return out + Markup("/>")
    return out + Markup(">") + Markup.escape(body) + Markup(f"</{tag}>")


def short(value: Number) -> str:
    """A coordinate with one decimal at most."""
    return f"{value:z.1f}".removesuffix(".0")


def ticks(low: float, high: float, count: int, whole: bool = False) -> list[float]:
    """About ``count`` (from 3) round numbers (1, 2 or 5 times a power of ten apart) within [low, high], at least 1
    apart where ``whole``."""
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_texts(values: Sequence[float], log: bool = False) -> list[str]:
    """The labels of ticks, all with as many decimals as tell them apart; thousands as k."""
    if log:
        return [f"{v:g}" for v in values]
    step = min((b - a for a, b in itertools.pairwise(values)), default=1.0)
    biggest = max((abs(v) for v in values), default=0)
    divisor, unit = (1e6, "M") if biggest >= 2e6 else (1e3, "k") if biggest >= 1e4 else (1.0, "")
    places = max(0, -math.floor(math.log10(step / divisor) + 1e-9))
    return [(f"{v / divisor:z.{places}f}" + unit * (v != 0)).replace("-", "−") for v in values]


def _widened(low: float, high: float) -> tuple[float, float]:
    if high > low:
        return low, high
    pad = abs(low) * 0.05 or 1.0
    return low - pad, high + pad
