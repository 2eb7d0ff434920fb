"""Figures as PNG and PDF, held against what a browser makes of their SVG."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image
from rich.console import Console
from support.synthetic_runs import arrays_of, learned, write_run

from siamese.commands import compare as command
from siamese.compare import page
from siamese.compare.comparison import Options, compare
from siamese.compare.figure import Figure
from siamese.compare.paper import DPI, INCH, as_paper
from siamese.compare.standalone import standalone
from siamese.compare.svg import Drawing

BATCH, KOLEO = "data.batch_size", "loss.koleo_weight"


def pixels(figure: Figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(as_paper(figure)[0]["png"])).convert("RGB")).astype(int)


def one(d: Drawing) -> Figure:
    return Figure("f", "title", d.markup())


def seen(image: np.ndarray, x: float, y: float) -> str:
    """The colour at a place of the drawing, which begins 26 pixels below the sheet's top."""
    at = image[round((y + 26) * DPI / INCH), round(x * DPI / INCH)]
    return "#" + "".join(f"{c:02x}" for c in at)


def test_elements_are_where_the_svg_has_them() -> None:
    d = Drawing(200, 100, "")
    d.box(10, 10, 20, 20, "", fill="#ff0000")
    d.box(40, 10, 20, 20, "", fill="#0000ff", fill_opacity="0.5")
    d.box(70, 10, 20, 20, "", fill="#00ff00", rx=10)
    d.add("path", d="M110 20h0M130 20h0M150 20H170", stroke="#123456", stroke_width="8", stroke_linecap="round")
    d.add("clipPath", Markup('<rect x="10" y="50" width="10" height="20"/>'), id="c")
    d.open(clip_path="url(#c)")
    d.add("path", d="M10 50H90V70H10Z", fill="#654321")
    d.close()
    file = io.BytesIO()
    Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)).save(file, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    d.add("image", href=uri, x=100, y=50, width=40, height=20)
    figure = one(d)
    image = pixels(figure)
    assert image.shape[:2] == (int(126 * DPI / INCH), int(200 * DPI / INCH))
    for x, y, colour in [
        (20, 20, "#ff0000"), (50, 20, "#7f7fff"), (80, 20, "#00ff00"), (71, 11, "#ffffff"), (5, 20, "#ffffff"),
        (110, 20, "#123456"), (130, 20, "#123456"), (113, 20, "#123456"), (120, 20, "#ffffff"), (160, 20, "#123456"),
        (15, 60, "#654321"), (30, 60, "#ffffff"), (110, 60, "#ff0000"), (130, 60, "#0000ff"), (141, 60, "#ffffff"),
    ]:  # fmt: skip
        assert seen(image, x, y) == colour, (x, y)


def test_no_dot_of_many_is_lost() -> None:
    d = Drawing(200, 100, "")
    places = [(10 + 6 * i, 10 + 6 * j) for i in range(30) for j in range(14)]
    path = "".join(f"M{x} {y}h0" for x, y in places)
    d.add("path", d=path, stroke="#123456", stroke_width="3", stroke_linecap="round")
    image = pixels(one(d))
    assert {seen(image, x, y) for x, y in places} == {"#123456"}
    assert {seen(image, x + 3, y + 3) for x, y in places} == {"#ffffff"}


@pytest.mark.parametrize(("anchor", "where"), [("start", 1), ("middle", 0.5), ("end", 0)])
@pytest.mark.parametrize("turn", [0, -90])
def test_text_stands_on_its_anchor_and_turns_as_svg_says(anchor: str, where: float, turn: int) -> None:
    d = Drawing(200, 200, "")
    d.text(100, 100, "MMMMM", anchor=anchor, fill="#000000", transform=f"rotate({turn} 100 100)")
    dark = np.argwhere(pixels(one(d))[round(30 * DPI / INCH) :].sum(2) < 200) * INCH / DPI + [4, 0]
    along, across = (dark[:, 1], dark[:, 0]) if not turn else (200 - dark[:, 0], dark[:, 1])
    length = np.ptp(along)
    assert length == pytest.approx(5 * 9.5, abs=3)
    assert along.min() == pytest.approx(100 - (1 - where) * length, abs=2)
    assert across.max() == pytest.approx(100, abs=1.5)


def test_letters_that_no_font_has_are_told_and_a_dollar_is_a_dollar() -> None:
    d = Drawing(100, 50, "")
    d.text(10, 20, r"$\frac{ 猫 été", anchor="start")
    files, boxes = as_paper(one(d))
    assert boxes == {"猫"}
    assert files["pdf"].startswith(b"%PDF")
    assert files == as_paper(one(d))[0]  # the same bytes


def test_letters_that_xml_cannot_hold_are_marked() -> None:
    d = Drawing(100, 50, "\x1b")
    d.text(10, 20, "a\x00\x1b[2J\ud800\uffff", anchor="start")
    figure = Figure("f", "\x07 title", d.markup(), "", (("g0", "\x01 name"),))
    root = ElementTree.fromstring(standalone(figure))
    shown = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    assert shown == ["� title", "a��[2J��", "� name"]
    assert as_paper(figure)[0]["pdf"].startswith(b"%PDF")


def runs_of_all_figures(root: Path) -> None:
    for batch in (16, 128):
        for weight in (0.0, 0.1):
            for seed in range(2):
                run = root / f"{batch}_{weight}_{seed}"
                settings = {BATCH: batch, KOLEO: weight, "seed": seed}
                arrays = arrays_of(seed, 0.9, images=60)
                rows = learned(seed, 0.9, epochs=3)
                write_run(run, settings, {"test/auc": 0.9 + seed / 100 + weight}, rows=rows, arrays=arrays)


def test_paper_writes_each_figure_and_forgets_those_of_before(tmp_path: Path) -> None:
    for weight, batch in ((0.0, 16), (0.1, 128)):
        write_run(tmp_path / "s" / str(weight), {KOLEO: weight, BATCH: batch}, {"test/auc": 0.9})
    out = tmp_path / "out"
    words = [str(tmp_path / "s"), "--out", str(out)]
    assert command.main([*words, "--paper"], Console(quiet=True)) == 0
    figures = sorted(path.stem for path in (out / "figures").glob("*.svg"))
    assert figures == ["forest_test_auc", "heatmap_test_auc"]
    for kind, start in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        files = sorted((out / "figures").glob(f"*.{kind}"))
        assert [path.stem for path in files] == figures
        assert all(path.read_bytes().startswith(start) for path in files)
    with Image.open(out / "figures" / f"{figures[0]}.png") as image:
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
    for seed in range(2):  # of other figures, with a letter that no font has and one that would steer a terminal
        write_run(
            tmp_path / "s" / str(seed), {KOLEO: 0.1, "seed": seed, "model._target_": "a\x9b猫"}, {"test/auc": 0.9}
        )
    text = io.StringIO()
    assert command.main([*words, "--paper"], Console(file=text, width=80)) == 0
    assert "boxes in PNG and PDF, whose font does not have them: U+009B, 猫\n" in text.getvalue()
    assert command.main(words, Console(quiet=True)) == 0
    assert {path.suffix for path in (out / "figures").iterdir()} == {".svg"}


def test_letters_of_a_pdf_are_letters_of_a_font_that_is_in_it() -> None:
    d = Drawing(100, 50, "")
    d.text(10, 20, "recall", anchor="start")
    pdf = as_paper(one(d))[0]["pdf"]
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.slow
def test_a_browser_makes_the_same_of_every_kind_of_figure(browser: Any, tmp_path: Path) -> None:
    runs_of_all_figures(tmp_path / "s")
    drawn = page.draw(compare([tmp_path / "s"], Options()), ()).figures()
    figures = {figure.slug.partition("_")[0]: figure for figure in drawn}
    assert figures.keys() == {"forest", "heatmap", "curve", "roc", "distances", "projection"}
    tab = browser.new_page(device_scale_factor=1)
    for figure in figures.values():
        svg = standalone(figure).partition("\n")[2]
        tab.set_content(f"<body style='margin:0'>{svg}")
        shot = Image.open(io.BytesIO(tab.locator("svg").first.screenshot())).convert("L")
        image = Image.open(io.BytesIO(as_paper(figure)[0]["png"])).convert("L")
        small = (shot.width // 4, shot.height // 4)  # letters differ a little between renderers
        a, b = (np.asarray(one.resize(small, Image.Resampling.BOX)).astype(float) for one in (shot, image))
        assert np.abs(a - b).mean() < 5, figure.slug
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.9, figure.slug
    tab.close()
