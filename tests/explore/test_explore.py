"""scripts/explore.py: what it gathers against brute force, its page in a real browser, and what it refuses."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from support.browsing import Visit
from support.images import toy_images, write_folder
from support.processes import Cli

from siamese.config.data import Data
from siamese.config.schema import Config
from siamese.explore import gather
from siamese.explore.gather import Embedded, Sheets, failed, maps, neighbours, read_embedded, thumbnails
from siamese.explore.page import render
from siamese.runs.read import read_config

pytest.importorskip("plotly", reason="plotly is not installed (pip install plotly)")

HOSTILE = "</script><script>alert(1)</script><b>&amp;"
LARGEST = 15e6  # bytes of the page of 10,000 images


def embedded(n: int, classes: tuple[str, ...] = ("cat", HOSTILE, "dog")) -> Embedded:
    """``n`` images in two parts, some of them the same, one without a class."""
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(n, 5)).astype(np.float32)
    embeddings[1] = embeddings[0]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.arange(n) % len(classes)
    labels[2] = -1
    ids = np.array([f"photos/{HOSTILE}/{i:05}.jpg" for i in range(n)])
    rows = [{"part": "test", "id": str(ids[-1]), "nearest_class": HOSTILE, "rank": "3"}]
    rows += [{"part": "test", "id": "gone", "nearest_class": "cat", "rank": "2"}]
    return Embedded(
        embeddings, np.repeat([0, 1], [n // 3, n - n // 3]), labels, ids, ("validation", "test"), classes, rows
    )


@pytest.mark.parametrize("n", [6, 40, 1600])
def test_neighbours_are_those_of_brute_force(n: int) -> None:
    of = embedded(n)
    nearest, cosines = neighbours(of, 4)
    rows = range(n) if n < 100 else [0, 1, 533, 1023, 1557, 1599]
    for i in rows:
        others = [j for j in range(n) if j != i and of.parts[j] == of.parts[i]]
        exact = sorted((-float(of.embeddings[i].astype(float) @ of.embeddings[j].astype(float)), j) for j in others)[:4]
        found = nearest[i][nearest[i] >= 0]
        assert len(found) == len(exact) == min(4, len(others))
        assert len(set(found)) == len(found)
        assert np.allclose(cosines[i, : len(exact)], [-c for c, _ in exact], atol=1e-5)
        assert np.allclose([of.embeddings[i] @ of.embeddings[j] for j in found], cosines[i, : len(found)], atol=1e-6)


def test_failures_are_found_by_part_and_name() -> None:
    of = embedded(9)
    assert failed(of, of.failures) == [8, -1]
    assert failed(of, [{"part": "validation", "id": str(of.ids[8])}]) == [-1]


def page(of: Embedded, sheets: Sheets | None = None) -> str:
    return render(of, maps(of, 0), neighbours(of), sheets, f"run {HOSTILE}", f"explore {HOSTILE}", "today")


def test_names_cannot_end_the_script() -> None:
    text = page(embedded(9))
    assert "alert(1)" in text
    assert not re.search(r"<script>alert\(1\)|<b>&amp;", text)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    assert data["classNames"][1] == HOSTILE
    assert data["wrong"] == [8]


def test_ten_thousand_images_stay_below_15_mb() -> None:
    of = embedded(10_000)
    full = Sheets([bytes(gather.PICTURES // 10)] * 10, 32)
    assert len(page(of, full).encode()) < LARGEST


def test_hostile_names_are_shown_as_they_are(browser: Any, tmp_path: Path) -> None:
    of = embedded(30)
    (tmp_path / "page.html").write_text(page(of))
    with Visit(browser, tmp_path / "page.html") as visit:
        visit.page.wait_for_selector("[data-drawn]")
        visit.page.locator("#failures button").click()
        assert HOSTILE in visit.page.inner_text("#legend")
        assert str(of.ids[29]) in visit.page.inner_text("#chosen")
        assert complaints(visit) == []


def complaints(visit: Visit) -> list[str]:
    """All but what the graphics driver says about its speed."""
    return [text for text in visit.complaints if "GL Driver Message" not in text]


@pytest.fixture(scope="module")
def run(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("explore")
    write_folder(where / "photos", {"cat": 20, "<i>dog</i>".replace("/", "_"): 20, "owl": 20}, size=(24, 20))
    train_cli(
        "data=image_folder",
        f"data.root={where / 'photos'}",
        f"data.cache_dir={where / 'cache'}",
        "data.val_fraction=0.3",
        "data.test_fraction=0.4",
        "data.batch_size=4",
        "data.image_size=16",
        "model=conv_small",
        "model.width=4",
        "device=cpu",
        "trainer.max_epochs=1",
        "figures.draw=false",
        f"hydra.run.dir={where / 'run'}",
    )
    return where / "run"


@pytest.fixture(scope="module")
def written(run: Path, cli: Cli) -> Path:
    said = cli("scripts/explore.py", run).stdout
    assert re.fullmatch(rf"{run}/explore.html: \d\.\d MB, \d+ images, thumbnails of 16 pixels\n", said)
    return run / "explore.html"


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_opens_offline(written: Path, browser: Any, width: int, scheme: str) -> None:
    of = read_embedded(written.parent)
    with Visit(browser, written, width, scheme) as visit:
        visit.page.wait_for_selector("[data-drawn]")
        assert [url for url in visit.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        points = "document.getElementById('map').data.reduce((sum, trace) => sum + trace.x.length, 0)"
        assert visit.page.evaluate(points) == len(of.ids)
        assert "WebGL is not" not in visit.page.inner_text("#map")
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert complaints(visit) == []


@pytest.mark.slow
def test_one_looks_around(written: Path, browser: Any) -> None:
    of = read_embedded(written.parent)
    nearest, _ = neighbours(of)
    with Visit(browser, written) as visit:
        at = visit.page
        at.wait_for_selector("[data-drawn]")
        at.focus("#map")
        at.keyboard.press("ArrowRight")
        assert str(of.ids[0]) in at.inner_text("#chosen .self")
        titles = at.evaluate("[...document.querySelectorAll('#chosen li button')].map(one => one.title)")
        assert titles == [str(of.ids[j]) for j in nearest[0] if j >= 0]
        at.locator("#chosen li button").first.click()  # goes to the neighbour, and so does its address
        assert str(of.ids[nearest[0][0]]) in at.inner_text("#chosen .self")
        address = at.url
        at.select_option("#class", "1")
        assert at.inner_text("#count") == f"{(of.labels == 1).sum()} of {len(of.ids)} images"
        at.select_option("#colour", "part")
        assert re.fullmatch(r"validation \(\d+\)\s*test \(\d+\)", at.inner_text("#legend"))
        at.fill("#find input", str(of.ids[5]))
        at.keyboard.press("Enter")
        assert str(of.ids[5]) in at.inner_text("#chosen .self")
        at.fill("#find input", "nowhere.png")
        at.keyboard.press("Enter")
        assert at.inner_text("#count") == "there is no image nowhere.png"
        at.goto("about:blank")
        at.goto(address)
        at.wait_for_selector("#chosen .self")
        assert str(of.ids[nearest[0][0]]) in at.inner_text("#chosen .self")
        failures = json.loads(at.inner_text("#data") or at.evaluate("document.getElementById('data').textContent"))
        assert len(failures["wrong"]) == len(of.failures) > 0
        assert complaints(visit) == []


@pytest.mark.slow
def test_thumbnails_are_the_images_and_shrink_to_fit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of, config = read_embedded(run), read_config(run, "run")
    whole = thumbnails(of, config)
    assert whole.edge == 16
    with Image.open(io.BytesIO(whole.files[0])) as sheet:
        pixels = np.asarray(sheet.convert("RGB"), dtype=float)
    for i in (0, 1, len(of.ids) - 1):
        with Image.open(Path(config.data.root or "") / str(of.ids[i])) as image:
            small = np.asarray(image.convert("RGB").resize((16, 16)), dtype=float)
        row, column = divmod(i, 32)
        shown = pixels[row * 16 : row * 16 + 16, column * 16 : column * 16 + 16]
        assert abs(shown.mean((0, 1)) - small.mean((0, 1))).max() < 12
    monkeypatch.setattr(gather, "PICTURES", sum(map(len, whole.files)) - 1)
    assert sum(map(len, thumbnails(of, config).files)) < sum(map(len, whole.files))
    assert dataclasses.replace(whole).edge == 16


def test_thumbnails_of_images_that_are_no_squares_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    of = embedded(40)
    images = torch.zeros(40, 3, 16, 32, dtype=torch.uint8)
    images[:, 0] = 200  # red, on blue
    source = dataclasses.replace(toy_images([40]), images=images, ids=of.ids)
    monkeypatch.setattr(gather, "load", lambda data, seed: source)
    data = Data(image_size=[16, 32], background=[0, 0, 200])
    sheets = thumbnails(of, cast(Config, SimpleNamespace(data=data, seed=0)))
    assert sheets.edge == 32
    with Image.open(io.BytesIO(sheets.files[0])) as sheet:
        assert sheet.size == (32 * 32, 2 * 32)
        pixels = np.asarray(sheet.convert("RGB"), dtype=float)
    for i in (0, 33, 39):
        row, column = divmod(i, 32)
        shown = pixels[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        assert abs(shown[10:22, 2:30] - [200, 0, 0]).max() < 30
        assert abs(shown[[*range(6), *range(26, 32)], 2:30] - [0, 0, 200]).max() < 30


@pytest.mark.slow
def test_what_cannot_be_shown_is_said_in_one_line(run: Path, cli: Cli, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        done = cli("scripts/explore.py", *words, check=False)
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    assert "not a run directory" in said(tmp_path)
    (tmp_path / "there.html").write_text("mine")
    assert "there.html: already exists" in said(run, "--out", tmp_path / "there.html")
    assert "is a folder; expected a file" in said(run, "--out", tmp_path)
    assert (tmp_path / "there.html").read_text() == "mine"
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    assert re.search(r"--root PATH .* --no-images", said(copy, "--root", tmp_path / "gone"))
    fewer = Path(shutil.copytree(run.parent / "photos", tmp_path / "fewer"))
    for i in range(18):
        (fewer / "owl" / f"{i:03}.png").unlink()
    assert re.search(r"no longer has \d+ of the run's \d+ images \(.* and \d+ more\)", said(copy, "--root", fewer))
    cli("scripts/explore.py", copy, "--root", tmp_path / "gone", "--no-images", "--out", tmp_path / "plain.html")
    assert '"sheets":[]' in (tmp_path / "plain.html").read_text()
    shutil.rmtree(copy / "arrays")
    assert "holds neither validation.npz nor test.npz" in said(copy)


def test_without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    from siamese.errors import ConfigError
    from siamese.explore import page as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^plotly: not installed, .* pip install 'siamese\[explore\]'$"):
        module.plotly_script()
