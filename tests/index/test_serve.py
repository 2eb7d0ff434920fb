"""The page of search: in a real browser, and as somebody who means no good would use it."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.browsing import Visit
from support.images import coloured
from support.processes import ROOT, Cli

pytest.importorskip("faiss", reason="faiss is not installed (pip install faiss-cpu)")
pytest.importorskip("starlette", reason="starlette is not installed (pip install starlette)")
pytest.importorskip("uvicorn", reason="uvicorn is not installed (pip install uvicorn)")
expect = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install playwright)"
).expect

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def hostile(made: Path, pictures: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index with a class and a file that are called like something else."""
    where = tmp_path_factory.mktemp("served")
    folder = where / "more" / HOSTILE
    folder.mkdir(parents=True)
    red = np.asarray(Image.open(pictures / "red" / "00.png")).copy()
    red[0, 0] ^= 1
    Image.fromarray(red).save(folder / f"{HOSTILE}.png")
    index = shutil.copytree(made, where / "pictures.index")
    cli("scripts/index.py", index, "--add", where / "more")
    return Path(index)


@pytest.fixture(scope="module")
def address(hostile: Path) -> Iterator[str]:
    """Where the page of ``hostile`` is."""
    words = [sys.executable, "scripts/search.py", str(hostile), "--serve", "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+)/ shows the page; Ctrl-C ends it", said)
        assert found, said
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130)
        assert process.stdout.read() == ""  # whatever was asked for


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with visiting(browser, address) as page:
        yield page


@contextlib.contextmanager
def visiting(browser: Any, address: str, **more: Any) -> Iterator[Any]:
    """The page, which asks nobody else and of which nothing is complained but what it was told not to do."""
    with Visit(browser, f"{address}/", **more) as visit:
        yield visit.page
        assert not [one for one in visit.requests if not one.startswith((f"{address}/", "blob:", "data:"))]
        assert not [one for one in visit.complaints if "status of 4" not in one]


def ask(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{address}/{path}", body, named)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


def files(page: Any) -> list[str]:
    """The files of the cards that are shown, with their folders."""
    page.wait_for_selector("#found:not([aria-busy]) li")
    return [text.strip() for text in page.locator("#found .file").all_text_contents()]


def found_by_command(cli: Cli, index: Path, query: Path, *more: str) -> list[str]:
    told = json.loads(cli("scripts/search.py", index, query, "--json", *more).stdout)
    return ["/".join(Path(one["path"]).parts[-2:]) for one in told["neighbours"]]


def test_an_image_that_is_dropped_finds_what_the_command_finds(
    page: Any, hostile: Path, pictures: Path, cli: Cli
) -> None:
    query = pictures / "green" / "07.png"
    page.set_input_files("#file", query)
    assert files(page) == found_by_command(cli, hostile, query)
    page.select_option("#label", "blue")
    expect(page.locator("#found b").first).to_have_text("blue")
    assert files(page) == found_by_command(cli, hostile, query, "--where", "label=blue")
    page.select_option("#label", "")
    page.select_option("#threshold", "eer")
    expect(page.locator("#status")).to_contain_text("within")
    expected = found_by_command(cli, hostile, query, "--threshold", "eer")
    assert [text.strip() for text in page.locator("#found .file").all_text_contents()] == expected


def test_a_click_searches_with_a_neighbour_and_back_goes_back(
    page: Any, hostile: Path, pictures: Path, cli: Cli
) -> None:
    page.set_input_files("#file", pictures / "green" / "07.png")
    second = files(page)[1]
    page.locator("#found button").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#title")).to_contain_text(second)
    assert files(page) == found_by_command(cli, hostile, pictures / second)
    link = page.url
    assert re.search(r"#image-\d+$", link)
    page.goto("about:blank")
    page.goto(link)
    expect(page.locator("#title")).to_contain_text(second)


def test_a_hostile_name_is_a_name(page: Any, pictures: Path) -> None:
    page.set_input_files("#file", pictures / "red" / "00.png")
    assert f"{HOSTILE}/{HOSTILE}.png" in files(page)
    assert HOSTILE in page.locator("#found b").all_text_contents()
    page.select_option("#label", HOSTILE)
    expect(page.locator("#found li")).to_have_count(1)
    assert page.locator("img[src='x']").count() == 0


def test_an_image_is_pasted_or_dropped(page: Any, pictures: Path) -> None:
    content = list((pictures / "blue" / "02.png").read_bytes())
    for kind in ("paste", "drop"):
        page.evaluate(
            """([kind, content]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(content)], `${kind}.png`, { type: "image/png" }));
                const event = kind === "paste"
                    ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
                    : new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
                document.body.dispatchEvent(event);
            }""",
            [kind, content],
        )
        expect(page.locator("#title")).to_have_text(f"{kind}.png")
        assert files(page)[0] == "blue/02.png"


def test_the_camera_takes_a_picture(browser: Any, address: str) -> None:
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    own = browser.browser_type.launch(executable_path=found, args=flags)
    try:
        with visiting(own, address, permissions=["camera"]) as page:
            page.click("#camera")
            page.locator("#viewfinder").wait_for()
            page.wait_for_timeout(500)  # until there is a frame
            page.click("#take")
            assert len(files(page)) == 10
            assert page.locator("#viewfinder").is_hidden()
    finally:
        own.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_it_fits_its_window_and_its_theme(browser: Any, address: str, pictures: Path, width: int, scheme: str) -> None:
    with visiting(browser, address, width=width, scheme=scheme) as page:
        page.set_input_files("#file", pictures / "red" / "00.png")
        files(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) == (scheme == "dark")
        # Every control is reached by the keyboard, in their order.
        page.evaluate("document.activeElement.blur()")
        reached = []
        for _ in range(6):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        assert reached == ["choose", "camera", "k", "label", "threshold", "BUTTON"]


def test_errors_are_said_on_the_page(page: Any, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    page.set_input_files("#file", tmp_path / "x.png")
    page.wait_for_selector("#status.wrong")
    assert page.text_content("#status") == "this is no image that can be read"


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header says that it is as large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_what_is_sent_is_not_trusted(address: str, pictures: Path) -> None:
    good = (pictures / "red" / "00.png").read_bytes()
    port = address.rpartition(":")[2]
    refused = {
        "a bomb": (png_that_claims(30_000, 30_000), {}, 413),
        "a larger one": (png_that_claims(8_000, 8_000), {}, 413),
        "a large file": (bytes(20_000_001), {}, 413),
        "nothing": (b"", {}, 400),
        "PostScript, which would run a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {}, 415),
        "a truncated image": (good[: len(good) // 2], {}, 415),
        "from another page": (good, {"Origin": "http://example.com"}, 403),
        "from another port": (good, {"Origin": "http://127.0.0.1:1"}, 403),
        "by another name": (good, {"Host": f"example.com:{port}"}, 400),
    }
    for name, (body, headers, status) in refused.items():
        found, told = ask(address, "search", body, **headers)
        assert found == status, (name, told)
        assert name == "by another name" or len(told["error"].splitlines()) == 1
    assert ask(address, "search", good, Origin=address)[0] == 200
    for path in ("search?k=0", "search?k=101", "search?k=x", "search?label=pink", "search?threshold=9"):
        assert ask(address, path, good)[0] == 400, path
    for path in ("thumbnail/9999", "search/9999", "..%2f..%2fetc/passwd", "search.py"):
        assert ask(address, path)[0] == 404, path
    with urllib.request.urlopen(f"{address}/") as answer:
        policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_large_photograph_is_decoded_as_the_command_does(
    address: str, hostile: Path, cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "large.jpg"
    coloured((60, 160, 90), (300, 260), np.random.default_rng(1)).save(file)
    status, told = ask(address, "search", file.read_bytes())
    expected = json.loads(cli("scripts/search.py", hostile, file, "--json").stdout)["neighbours"]
    assert status == 200
    assert [one["path"] for one in told["neighbours"]] == [one["path"] for one in expected]
    distances = [[one["distance"] for one in found] for found in (told["neighbours"], expected)]
    assert distances[0] == pytest.approx(distances[1], abs=1e-6)


def test_twenty_at_once(address: str, pictures: Path) -> None:
    images = [(pictures / "red" / f"{i:02}.png").read_bytes() for i in range(20)]
    alone = [ask(address, "search?k=5", image) for image in images]
    with ThreadPoolExecutor(20) as pool:
        together = list(pool.map(lambda image: ask(address, "search?k=5", image), images))
    assert together == alone
    assert {status for status, _ in alone} == {200}
    assert alone[3][1]["neighbours"][0]["path"] == str(pictures / "red" / "03.png")


def test_a_thumbnail_is_the_image(address: str, pictures: Path) -> None:
    status, told = ask(address, "search?k=1", (pictures / "green" / "01.png").read_bytes())
    assert status == 200
    with urllib.request.urlopen(f"{address}/thumbnail/{told['neighbours'][0]['position']}") as answer:
        shown = Image.open(io.BytesIO(answer.read())).convert("RGB")
    own = Image.open(pictures / "green" / "01.png").resize((160, 133), Image.Resampling.BICUBIC)
    middle = np.asarray(shown.crop((0, 13, 160, 146)), float)
    assert np.abs(middle - np.asarray(own, float)).mean() < 12


def test_a_port_in_use_is_one_line(made: Path, cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("scripts/search.py", made, "--serve", "--port", port, check=False)
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: --port {port}: Address already in use; choose another, or none"
    done = cli("scripts/search.py", made, "--port", "80", check=False)
    assert done.stderr.strip() == "error: --port 80: is for --serve"
