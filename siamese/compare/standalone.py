"""A drawing as a file of its own: with its title and its legend, and every colour and line written on its element, so
that any program draws it, whether it knows style sheets or not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from functools import cache
from xml.etree import ElementTree

from siamese.compare.figure import Figure
from siamese.compare.svg import short
from siamese.compare.theme import HUES, drawing_css, light_colours
from siamese.palette import LIGHT

SVG = "http://www.w3.org/2000/svg"
FONT = "DejaVu Sans, Arial, Helvetica, sans-serif"
LINE, EDGE = 16.0, 10.0  # a line of text and the margin, in pixels
LETTER, BOLD = 6.4, 8.0  # the widest usual letter of a legend and of a heading
DRAWN = ("fill", "stroke", "font-size", "font-weight", "image-rendering")  # with all their -opacity, -width, …
Rule = tuple[tuple[int, int], list[str], dict[str, str]]  # how specific, the parts of the selector, what it sets


def standalone(figure: Figure) -> str:
    """The SVG of ``figure``: title, drawing, legend."""
    ElementTree.register_namespace("", SVG)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(elements(figure), encoding="unicode")}\n'


def elements(figure: Figure) -> ElementTree.Element:
    """The elements of that SVG."""
    svg = ElementTree.fromstring(_legal(str(figure.drawing)).replace("<svg", f'<svg xmlns="{SVG}"', 1))
    wide, high = float(svg.get("width", "0")), float(svg.get("height", "0"))
    _resolve(svg, [])
    letters = int((wide - 2 * EDGE) / LETTER)
    title = _legal(figure.heading or figure.title)
    heading = textwrap.wrap(title, int((wide - 2 * EDGE) / BOLD)) or [""]
    legend = [(css, textwrap.wrap(_legal(text), letters - 4) or [""]) for css, text in figure.legend]
    top = EDGE + LINE * len(heading)
    below = top + high
    whole = below + sum(LINE * len(lines) for _, lines in legend) + EDGE * bool(legend)
    root = ElementTree.Element(f"{{{SVG}}}svg", {k: svg.get(k, "") for k in ("role", "aria-label")})
    root.attrib |= {"width": short(wide), "height": short(whole), "viewBox": f"0 0 {short(wide)} {short(whole)}"}
    root.set("font-family", FONT)
    _add(root, "title").text = title
    _add(root, "rect", width=short(wide), height=short(whole), fill=LIGHT)
    ink = light_colours()["ink"]
    for i, line in enumerate(heading):
        at = {"x": short(EDGE), "y": short(EDGE + LINE * (i + 0.6)), "font-size": "12.5", "font-weight": "600"}
        _add(root, "text", fill=ink, **at).text = line
    body = _add(root, "g", transform=f"translate(0 {short(top)})", **{"font-size": svg.get("font-size", "11")})
    body.extend(list(svg))
    y = below + LINE * 0.6
    for css, lines in legend:
        swatch = _add(root, "g")
        swatch.set("class", f"series {css}")
        path = _add(swatch, "path", d=f"M{short(EDGE)} {short(y - 4)}h18")
        path.set("class", "mean")
        _resolve(swatch, [])
        for line in lines:
            _add(root, "text", x=short(EDGE + 24), y=short(y), fill=ink, **{"font-size": "11"}).text = line
            y += LINE
    return root


def _legal(text: str) -> str:
    """``text`` with a � for each letter that XML cannot hold, as names from elsewhere may have."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, f"{{{SVG}}}{tag}", attributes)


def _resolve(element: ElementTree.Element, above: Sequence[tuple[str, frozenset[str]]]) -> None:
    """Write on ``element`` and all within it what the style sheet sets for them."""
    own = [*above, (element.tag.rpartition("}")[2], frozenset(element.get("class", "").split()))]
    hue = next((c for _, classes in reversed(own) for c in classes if c in HUES), None)
    colours = light_colours() | ({"hue": light_colours()[hue]} if hue else {})
    found: dict[str, str] = {}
    for _, parts, declared in _rules():
        if _fits(parts, own):
            found |= declared
    for name, value in found.items():
        if name.startswith(DRAWN):
            value = re.sub(r"var\(--([\w-]+)\)", lambda m: colours[m[1]], value)
            element.attrib.setdefault(name, value.removesuffix("px"))
    for child in element:
        _resolve(child, own)
    element.attrib.pop("class", None)


def _fits(parts: Sequence[str], own: Sequence[tuple[str, frozenset[str]]]) -> bool:
    """Whether the last of ``parts`` fits the last element and the others, in their order, some of those around it."""
    *outer, last = parts
    if not _one(last, own[-1]):
        return False
    around = iter(own[:-1])
    return all(any(_one(part, element) for element in around) for part in outer)


def _one(part: str, element: tuple[str, frozenset[str]]) -> bool:
    tag, *classes = part.split(".")
    return (not tag or tag == element[0]) and element[1].issuperset(classes)


@cache
def _rules() -> list[Rule]:
    """The rules of the style sheet of drawings, the most specific last."""
    out: list[Rule] = []
    for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", drawing_css()):
        lines = [line.partition(":") for line in body.split(";")]
        declared = {name.strip(): value.strip() for name, _, value in lines if value}
        for selector in selectors.split(","):
            parts = selector.split()
            if parts and not parts[0].startswith(":"):
                classes = sum(part.count(".") for part in parts)
                tags = sum(not part.startswith(".") for part in parts)
                out.append(((classes, tags), parts, declared))
    return sorted(out, key=lambda rule: rule[0])
