"""A drawing as PNG and as PDF: what :mod:`siamese.compare.standalone` makes of it, drawn by matplotlib.

That SVG holds few kinds of elements, all lengths in pixels of 1/96 inch, and every colour on its element.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Sheet
from matplotlib.patches import FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D, Transform
from PIL import Image

from siamese.compare.figure import Figure
from siamese.compare.standalone import elements

DPI = 200  # of the PNG, and of the images in a PDF
INCH, POINT = 96.0, 0.75  # pixels in an inch, points in a pixel
DOT = 0.01  # pixels: a stroke without length would not be drawn, and a dot is the round cap of one
STYLE: Any = {"pdf.fonttype": 42, "font.family": "DejaVu Sans"}  # the letters of a PDF stay text
ANCHORS = {"start": "left", "middle": "center", "end": "right"}


def as_paper(figure: Figure) -> tuple[dict[str, bytes], set[str]]:
    """The files of ``figure`` by their suffix, png and pdf, and the letters that no font has, which are boxes there."""
    root = elements(figure)
    wide, high = float(root.get("width", "0")), float(root.get("height", "0"))
    with rc_context(STYLE), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        sheet = Sheet(figsize=(wide / INCH, high / INCH))
        axes = sheet.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
        _Drawer(axes, root).draw(root, Affine2D(), "11", None)
        axes.set(xlim=(0, wide), ylim=(high, 0), autoscale_on=False)
        files = {}
        for kind, about in {"png": {"Software": None}, "pdf": {"CreationDate": None}}.items():
            sheet.savefig(file := io.BytesIO(), format=kind, dpi=DPI, metadata=about)
            files[kind] = file.getvalue()
    return files, {chr(int(found[1])) for one in said if (found := re.match(r"Glyph (\d+) ", str(one.message)))}


class _Drawer:
    """Draws elements on ``axes``, whose data are the pixels of the SVG, each above those before."""

    def __init__(self, axes: Axes, root: Element) -> None:
        self.axes = axes
        self.clips = {e.get("id"): e[0] for e in root.iter() if _tag(e) == "clipPath"}

    def draw(self, element: Element, placed: Transform, size: str, clip: tuple[Element, Transform] | None) -> None:
        """``placed`` leads from the coordinates of the element to the sheet's; ``size`` is that of letters."""
        tag = _tag(element)
        if tag in ("clipPath", "title"):
            return
        placed = _transform(element.get("transform", "")) + placed
        size = element.get("font-size", size)
        if name := element.get("clip-path"):
            clip = self.clips[name.removeprefix("url(#").removesuffix(")")], placed
        if tag in ("svg", "g"):
            for child in element:
                self.draw(child, placed, size, clip)
            return
        artist = {"rect": self._rect, "path": self._path, "text": self._text, "image": self._image}[tag](
            element, placed, float(size)
        )
        artist.set_zorder(len(self.axes.get_children()))
        if clip is not None:
            box, place = clip
            artist.set_clip_path(Path.unit_rectangle(), Affine2D(_box(box)) + place + self.axes.transData)
        else:
            artist.set_clip_on(False)

    def _rect(self, element: Element, placed: Transform, size: float) -> Artist:
        x, y, wide, high, rx = (float(element.get(name, "0")) for name in ("x", "y", "width", "height", "rx"))
        rounded = FancyBboxPatch((x, y), wide, high, boxstyle=f"round,pad=0,rounding_size={rx}") if rx else None
        patch = rounded or Rectangle((x, y), wide, high)
        patch.set(transform=placed + self.axes.transData, **_look(element, filled=True))
        return self.axes.add_artist(patch)

    def _path(self, element: Element, placed: Transform, size: float) -> Artist:
        path = _path(element.get("d", ""))
        closed = "Z" in element.get("d", "")  # filled lines would be seen in PDF
        return self.axes.add_artist(PathPatch(path, transform=placed + self.axes.transData, **_look(element, closed)))

    def _text(self, element: Element, placed: Transform, size: float) -> Artist:
        (at,) = placed.transform([[float(element.get("x", "0")), float(element.get("y", "0"))]])
        matrix = placed.get_matrix()
        return self.axes.text(
            at[0],
            at[1],
            element.text or "",
            color=element.get("fill"),
            fontsize=size * POINT,
            fontweight="bold" if element.get("font-weight") else "normal",
            ha=ANCHORS[element.get("text-anchor", "start")],
            va="baseline",
            rotation=-np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])),  # downwards is positive in SVG
            rotation_mode="anchor",
            parse_math=False,
        )

    def _image(self, element: Element, placed: Transform, size: float) -> Artist:
        picture = Image.open(io.BytesIO(base64.b64decode(element.get("href", "").partition(",")[2])))
        box = Affine2D(_box(element)) + placed
        (left, top), (right, bottom) = box.transform([[0, 0], [1, 1]])
        extent = (left, right, bottom, top)
        return self.axes.imshow(np.asarray(picture), extent=extent, aspect="auto", interpolation="nearest")


def _tag(element: Element) -> str:
    return element.tag.rpartition("}")[2]


def _transform(text: str) -> Affine2D:
    """``translate(x y)`` or ``rotate(degrees x y)``; nothing of an empty text."""
    if not text:
        return Affine2D()
    kind, _, inside = text.removesuffix(")").partition("(")
    numbers = [float(word) for word in inside.split()]
    if kind == "translate":
        return Affine2D().translate(*numbers)
    return Affine2D().rotate_deg_around(numbers[1], numbers[2], numbers[0])


def _box(element: Element) -> np.ndarray:
    """The matrix [3, 3] that leads from the unit square to the box of ``element``."""
    x, y, wide, high = (float(element.get(name, "0")) for name in ("x", "y", "width", "height"))
    return np.array([[wide, 0, x], [0, high, y], [0, 0, 1]])


def _look(element: Element, filled: bool) -> dict[str, Any]:
    def colour(of: str, unset: str) -> Any:
        found = element.get(of, unset)
        return "none" if found == "none" else to_rgba(found, float(element.get(f"{of}-opacity", "1")))

    width = float(element.get("stroke-width", "1"))
    dashes = [float(word) / width for word in element.get("stroke-dasharray", "").split()]
    return {
        "facecolor": colour("fill", "#000000") if filled else "none",
        "edgecolor": colour("stroke", "none"),
        "linewidth": width * POINT,
        "linestyle": (0, dashes) if dashes else "solid",
        "capstyle": element.get("stroke-linecap", "butt"),
        "joinstyle": element.get("stroke-linejoin", "miter"),
        "snap": False,  # to whole pixels, where dots would be none
    }


def _path(d: str) -> Path:
    """The lines of a path with M, L, H, V, h, v and Z."""
    points: list[tuple[float, float]] = []
    codes: list[Any] = []
    x, y = 0.0, 0.0
    for command, numbers in re.findall(r"([MLHVhvZ])([^MLHVhvZ]*)", d):
        values = [float(word) for word in re.findall(r"-?[\d.]+", numbers)]
        if command in "ML":
            x, y = values
        elif command in "Hh":
            x = values[0] if command == "H" else x + (values[0] or DOT)
        elif command in "Vv":
            y = values[0] if command == "V" else y + (values[0] or DOT)
        points.append((x, y))
        codes.append({"M": Path.MOVETO, "Z": Path.CLOSEPOLY}.get(command, Path.LINETO))
    return Path(points, codes)
