"""The style sheet of page and drawings, with the colours of :mod:`siamese.palette` for light and for dark."""

from __future__ import annotations

import re
from pathlib import Path

from siamese.palette import CLASSES, DARK, LESS, LIGHT, LINES, MORE, SAME, readable

TEMPLATES = Path(__file__).parent / "templates"
TEXT = 5.0  # contrast of a colour that words are written in
TONES = {"blue": MORE, "orange": LESS, "green": SAME, "amber": CLASSES[1], "sky": CLASSES[9]}
HUES = {f"g{i}": colour for i, colour in enumerate(LINES)} | {f"c{i}": colour for i, colour in enumerate(CLASSES)}


def drawing_css() -> str:
    """What a drawing needs, in the light theme."""
    hues = "\n".join(f".{name} {{ --hue: var(--{name}); }}" for name in HUES)
    return f":root {{ {_variables(LIGHT)} }}\n{hues}\n{_source('figures.css')}"


def page_css() -> str:
    """Everything that the page needs, which is dark where its reader wants that."""
    dark = _variables(DARK)
    return (
        f'{drawing_css()}:root[data-theme="dark"] {{ {dark} }}\n'
        f'@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
        f"{_source('report.css')}"
    )


def light_colours() -> dict[str, str]:
    """Every colour of the light theme by the name of its variable."""
    plain = re.findall(r"--(\w+):\s*(#\w+)", _source("figures.css"))
    return dict(plain) | _colours(LIGHT)


def _variables(ground: str) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in _colours(ground).items())


def _colours(ground: str) -> dict[str, str]:
    colours = {"card": ground}
    colours |= {name: readable(colour, ground, TEXT) for name, colour in TONES.items()}
    colours |= {name: readable(colour, ground) for name, colour in HUES.items()}
    return colours


def _source(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
