"""The report page in a real browser: Debian's chromium, headless, driven by Playwright, without a network.

Skipped where no chromium is on the PATH, unless SIAMESE_CHROMIUM=required.
"""

import io
import json
import os

import numpy as np
import pytest
from rich.console import Console
from support.browsing import Visit
from support.processes import ROOT
from support.synthetic_runs import CLASSES, arrays_of, learned, study, write_run

from siamese.commands import compare as command

pytestmark = pytest.mark.slow

BASELINE = ("--baseline", "trainer.accumulate_grad_batches=1")
HOSTILE = (
    "<img src=x onerror=hacked=1>",
    "<script>hacked=1<",
    "\"quotes' & <b>bold",
    "{{ 7 * 7 }} {% raw %}",
    "%2e%2e%2f..%2fetc%2fpasswd $(touch hacked)",
    "line\nbreak\x1b[2J",
    "=HYPERLINK('http://x')",
    os.fsdecode(b"not utf-8 \xff"),
)
INJECTION = "</title></style></script><script>window.hacked=1</script><img src=http://x/y onerror=hacked=1>"


def compared(*words: object) -> str:
    """Run the command; what it printed."""
    text = io.StringIO()
    assert command.main([*map(str, words)], Console(file=text, width=160)) == 0
    return text.getvalue()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A small sweep with every array, and its page."""
    root = study(tmp_path_factory.mktemp("report") / "study", seeds=3, points=((16, 8), (32, 4), (128, 1)), images=200)
    write_run(root / "failed", state="failed", status={"error": "train/loss became NaN"})
    compared(root, *BASELINE)
    return root.with_name("study.comparison") / "report.html"


def test_the_page_opens_offline_without_a_request_or_a_complaint(browser, report):
    with Visit(browser, report) as visit:
        assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
        assert [url for url in visit.requests if url.startswith("file:")] == [report.as_uri()]
        assert visit.complaints == []
        text = visit.page.inner_text("main")
        assert text.index("Verdicts") < text.index("Configuration") < text.index("Runs")
        for word in ("DIFFERENT", "EQUIVALENT", "INCONCLUSIVE", "failed, train/loss became NaN", "data.batch_size"):
            assert word in text
        assert visit.shown("section svg.drawing") >= 10
    source = report.read_text()
    assert " style=" not in source
    assert "http" not in source.replace("http-equiv", "")


def test_every_image_loads(browser, report):
    with Visit(browser, report) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        sizes = visit.page.evaluate("""() => Promise.all([...document.images].map(async image => {
            await image.decode();
            return [image.naturalWidth, image.naturalHeight, image.alt];
        }))""")
        assert len(sizes) == len(CLASSES) * (1 + 6)  # a query and the neighbours of six groups
        assert {tuple(size[:2]) for size in sizes} == {(32, 32), (8 * 34 - 2, 32)}
        assert all(alt for *_, alt in sizes)


def test_tables_sort_by_number_filter_and_hide_what_is_constant(browser, report):
    with Visit(browser, report) as visit:
        batches = visit.sort("run-table", "batch_size")
        assert batches == sorted(batches, key=int) != sorted(batches)
        assert visit.sort("run-table", "batch_size") == sorted(batches, key=int, reverse=True)
        aucs = visit.sort("run-table", "test/auc")
        assert aucs == sorted(aucs, key=float)
        visit.page.fill("input[type=search]", "window8 seed1")
        assert set(visit.column("run-table", "run")) == {f"batch16_window8_koleo{k}_seed1" for k in (0.0, 0.1)}
        assert visit.page.inner_text("#run-table-count") == "2 shown"
        assert visit.shown("#run-table th:has-text('git_sha')") == 0
        visit.page.uncheck("input[data-hides]")
        assert visit.shown("#run-table th:has-text('git_sha')") == 1
        assert visit.complaints == []


def test_choices_show_one_drawing_of_several(browser, report):
    with Visit(browser, report) as visit:
        for axis in ("step", "images", "epoch"):
            visit.page.check(f"input[value={axis}]")
            assert {p.get_attribute("data-x") for p in visit.page.query_selector_all("[data-x]") if p.is_visible()} == {
                axis
            }
        visit.page.select_option("select", index=1)
        assert visit.shown("[data-pair]") == 1
        titles = visit.page.locator("[data-pair]:visible figcaption").all_inner_texts()
        assert len(titles) == 3
        assert titles[2] == f"{titles[0][0]} − {titles[1][0]}"
        visit.page.locator("#curves button[data-solo='0']").click()
        seen = visit.page.evaluate("""() => [...document.querySelectorAll('.series')]
            .map(series => [series.dataset.group, getComputedStyle(series).opacity])""")
        assert {group for group, opacity in seen if opacity == "1"} == {"0"}
        assert visit.complaints == []


def test_phone_dark_and_print(browser, report):
    overflow = "document.documentElement.scrollWidth - window.innerWidth"
    for width in (375, 1280):
        with Visit(browser, report, width) as visit:
            assert visit.page.evaluate(overflow) <= 0
            smallest = visit.page.evaluate("""() => Math.min(...[...document.querySelectorAll('svg.drawing text')]
                .filter(text => text.getBoundingClientRect().height)
                .map(text => [parseFloat(getComputedStyle(text).fontSize), text.getScreenCTM()])
                .map(([size, matrix]) => size * Math.hypot(matrix.a, matrix.b))
                .filter(size => size > 0.1))""")
            assert smallest >= 9  # CSS pixels, after the drawing is fitted to the width
    background = "getComputedStyle(document.documentElement).backgroundColor"
    with Visit(browser, report, scheme="dark") as visit:
        dark = visit.page.evaluate(background)
        visit.page.click("#theme")
        light = visit.page.evaluate(background)
        assert sum(map(int, dark[4:-1].split(","))) < 150 < 600 < sum(map(int, light[4:-1].split(",")))
        visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        visit.page.emulate_media(media="print")
        assert visit.shown("nav") == 0
        assert visit.page.evaluate("[...document.querySelectorAll('details')].every(part => part.open)")


def test_hostile_names_are_text(browser, tmp_path):
    folder = tmp_path / "names"
    for i, name in enumerate(HOSTILE):
        arrays = arrays_of(i, 0.9, images=60)
        facts = {
            "data": {"classes": [INJECTION, *CLASSES[1:]], "fingerprint": INJECTION, "source": INJECTION},
            "git": {"sha": INJECTION, "dirty": True},
            "argv": [INJECTION, name],
            "host": INJECTION,
            "packages": {INJECTION: INJECTION},
        }
        rows = [row | {INJECTION: 1, f"val/{INJECTION}": 0.5} for row in learned(i, 0.9, epochs=3)]
        metrics = {"test/auc": 0.9 + i / 100, f"test/{INJECTION}": i / 10}
        settings = {
            "seed": i // 2,
            "loss.margin": i % 2,
            "model._target_": INJECTION if i % 2 else "x",
            INJECTION: i % 2,
        }
        write_run(folder / name, settings, metrics, rows=rows, manifest=facts, arrays=arrays)
    write_run(folder / f"failed {HOSTILE[0]}", state="failed", status={"error": f"{INJECTION} \x1b[31m"})
    write_run(folder / "state", state=INJECTION)
    printed = compared(folder, "--metrics", "test/*")
    assert "\x1b" not in printed
    out = folder.with_name("names.comparison")
    json.loads((out / "report.json").read_text())
    with Visit(browser, out / "report.html") as visit:
        assert visit.page.evaluate("window.hacked") is None
        assert [url for url in visit.requests if not url.startswith("data:")] == [(out / "report.html").as_uri()]
        assert visit.complaints == []
        names = visit.column("run-table", "run")
        for name in HOSTILE[:5]:
            assert name in names
        assert visit.page.evaluate("document.querySelectorAll('script').length") == 1
        assert visit.page.evaluate("document.images.length") == 10 * 3
    for file in (out / "figures").iterdir():
        assert "<script" not in file.read_text()
    assert not list(tmp_path.rglob("hacked"))
    assert not list(ROOT.glob("hacked"))


def test_the_policy_runs_nothing_that_the_page_did_not_bring(browser, report, tmp_path):
    changed = tmp_path / "report.html"
    extra = "<script>window.hacked=1</script><p style='color:red' id=p onclick='hacked=1'>x</p><img src='http://127.0.0.1:9/x'>"
    changed.write_text(report.read_text().replace("<footer>", f"{extra}<footer>"))
    with Visit(browser, changed) as visit:
        visit.page.locator("#p").click()
        assert visit.page.evaluate("window.hacked") is None
        assert visit.page.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(255, 0, 0)"
        assert len([text for text in visit.complaints if "Content Security Policy" in text]) >= 4
        blocked = visit.page.evaluate("""() => new Promise(done => {
            addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
            fetch("http://127.0.0.1:9/").catch(() => setTimeout(() => done("asked"), 500));
        })""")
        assert blocked == "connect-src"


def test_a_run_without_arrays_or_history_is_said_to_lack_them(browser, tmp_path):
    for seed in range(2):
        write_run(tmp_path / "s" / f"run{seed}", {"seed": seed}, {"test/auc": 0.9 + seed / 100})
    compared(tmp_path / "s")
    with Visit(browser, tmp_path / "s.comparison" / "report.html") as visit:
        text = visit.page.inner_text("main")
        for missing in ("One group", "Without arrays/roc_validation.npz: run0, run1", "No run has a metrics.csv"):
            assert missing in text
        assert visit.complaints == []


def test_forty_runs_of_real_size_make_a_page_under_five_megabytes(tmp_path):
    arrays = arrays_of(0, 0.9, images=5000, dimensions=128)
    noise = np.random.default_rng(0)
    gallery = arrays["gallery_test"]
    for key in ("query_images", "neighbour_images"):  # pictures that do not compress
        gallery[key] = noise.integers(0, 256, gallery[key].shape, dtype=np.uint8)
    first = write_run(tmp_path / "first", arrays=arrays)
    for i in range(40):
        settings = {"data.batch_size": 16 * (1 + i // 5), "loss.margin": 0.1 * (1 + i // 10), "seed": i % 5}
        metrics = {f"test/{name}": noise.normal(0.9, 0.01) for name in ("auc", *CLASSES)}
        run = write_run(tmp_path / "sweep" / f"run{i}", settings, metrics, rows=learned(i, 0.9, epochs=100))
        (run / "arrays").symlink_to(first / "arrays")
    compared(tmp_path / "sweep", "--metrics", "test/*")
    page = tmp_path / "sweep.comparison" / "report.html"
    assert page.stat().st_size < 5e6
    assert "left out: the page would be larger" not in page.read_text()
    assert page.read_text().count("data:image/webp") == 10 * (1 + 8)  # queries and their neighbours in eight groups


def test_a_page_that_would_be_too_large_leaves_pictures_out_and_says_so(report, monkeypatch):
    from siamese.compare import page
    from siamese.compare.comparison import Options, compare

    found = compare([report.parent.with_name("study")], Options())
    drawn = page.draw(found, ())
    whole = page.render(found, drawn, [], "")
    monkeypatch.setattr(page, "LARGEST", len(whole.encode()) - 1)
    smaller = page.render(found, drawn, [], "")
    assert len(smaller) < len(whole)
    assert "Galleries are left out" in smaller
