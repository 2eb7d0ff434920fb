"""The one palette: seen on either ground, and the only place that names a colour of a figure."""

from __future__ import annotations

import re

import pytest
from matplotlib.colors import to_rgb
from support.processes import ROOT

from siamese.compare.theme import drawing_css, page_css
from siamese.palette import CLASSES, DARK, LIGHT, LINES, OTHER, SAME, readable, rgb


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, from its definition."""

    def luminance(colour: str) -> float:
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", [LIGHT, DARK])
@pytest.mark.parametrize("colour", [*CLASSES, SAME, OTHER])
@pytest.mark.parametrize("wanted", [3.0, 4.5])
def test_a_colour_is_changed_as_little_as_its_ground_needs(colour: str, ground: str, wanted: float) -> None:
    found = readable(colour, ground, wanted)
    assert contrast(found, ground) >= wanted
    if contrast(colour, ground) >= wanted:
        assert found == colour
    else:
        assert contrast(found, ground) < wanted * 1.05


def test_red_green_and_blue() -> None:
    assert rgb("#0a80ff") == (10, 128, 255)


def test_lines_are_the_colours_of_classes_in_another_order() -> None:
    assert sorted(LINES) == sorted(CLASSES)
    assert all(contrast(colour, LIGHT) >= 3 for colour in LINES[:6])


def test_the_page_has_the_colours_of_the_palette_and_no_others() -> None:
    light, dark = page_css().split(':root[data-theme="dark"]', 1)
    for css, ground in ((light, LIGHT), (dark, DARK), (drawing_css(), LIGHT)):
        for name, colours in (("c", CLASSES), ("g", LINES)):
            for i, colour in enumerate(colours):
                assert f"--{name}{i}: {readable(colour, ground)};" in css
    assert "--hue: var(--c9)" in light


def test_no_other_file_names_a_colour_of_a_figure() -> None:
    greys = re.compile(r"#([0-9a-fA-F])\1{2}\b|#([0-9a-fA-F]{2})\2{2}\b")
    for file in [*(ROOT / "siamese").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        if file != ROOT / "siamese/palette.py":
            named = re.findall(r"[\"'](#[0-9a-fA-F]{3,6})[\"']", file.read_text())
            assert [colour for colour in named if not greys.fullmatch(colour)] == [], file
