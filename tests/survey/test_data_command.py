"""scripts/data.py: what it says of a folder, its page in a real browser, and the cache that it lists and clears."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.browsing import Visit
from support.images import write_folder
from support.processes import Cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of which some are there twice, and of one class with a name that pages and tables trip over."""
    root = write_folder(
        tmp_path_factory.mktemp("collection") / "photos", {"cat": 12, "dog": 20, "<b>$1_$ & [red]": 9}, size=(24, 20)
    )
    shutil.copy(root / "cat" / "000.png", root / "dog" / "a cat.png")
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / ".hidden.png").write_bytes(b"")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def words(photos: Path) -> list[str]:
    cache = photos.parent / "cache"
    return ["data=image_folder", f"data.root={photos}", "data.image_size=16", f"data.cache_dir={cache}"]


@pytest.fixture(scope="module")
def survey(photos: Path, words: list[str], cli: Cli) -> tuple[Path, str]:
    """The folder that the command wrote, and what it printed on a terminal of 80 columns."""
    out = photos.parent / "out"
    done = cli("scripts/data.py", *words, "data.val_fraction=0.2", "--near", "--out", out, COLUMNS="80")
    return out, done.stdout


def test_it_says_what_is_there(survey: tuple[Path, str]) -> None:
    shown = survey[1]
    assert max(map(len, shown.splitlines()[:-1])) <= 80
    assert re.search(r"images +42, ", shown)
    assert re.search(r"classes +3\b", shown)
    assert re.search(r"formats +\.png 42", shown)
    assert re.search(r"sizes +24x20", shown)
    flowing = " ".join(shown.split())
    for kind in (
        "files that are no images: 1, such as cat/notes.txt",
        "class folders without an image: 1, such as empty",
    ):
        assert kind in flowing
    assert re.search(r"same pixels +1 pair ", shown)
    assert re.search(r"^dog +21 +", shown, re.M)
    assert "<b>$1_$ & [red]" in shown


def test_parts_are_those_of_a_run(survey: tuple[Path, str], words: list[str], train_cli: Cli, tmp_path: Path) -> None:
    rows = re.findall(r"^(?:cat|dog|<b>\S* & \[red\]) +(\d+) +(\d+) +(\d+) +(\d+)$", survey[1], re.M)
    counts = [sum(int(row[column]) for row in rows) for column in range(4)]
    assert counts[0] == sum(counts[1:]) == 42
    run = tmp_path / "run"
    few = ("model=conv_small", "data.batch_size=4", "trainer.max_epochs=1", "figures.draw=false", "device=cpu")
    train_cli(*words, *few, "data.val_fraction=0.2", f"hydra.run.dir={run}")
    split = json.loads((run / "manifest.json").read_text())["split"]
    assert [split[part] for part in ("train", "validation", "test")] == counts[1:]


def test_what_is_there_twice_is_a_table(survey: tuple[Path, str]) -> None:
    with (survey[0] / "duplicates.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert {row["image"], row["other"]} == {"cat/000.png", "dog/a cat.png"}
    assert {row["class"], row["other_class"]} == {"cat", "dog"}


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_opens_offline(survey: tuple[Path, str], browser: Any, width: int, scheme: str) -> None:
    with Visit(browser, survey[0] / "data.html", width, scheme) as visit:
        assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
        assert visit.complaints == []
        text = visit.page.inner_text("main")
        for word in ("42, ", "Sizes of classes", "The same pixels", "a cat.png", "<b>$1_$ & [red]", "21 images"):
            assert word in text
        sizes = visit.page.evaluate("[...document.images].map(image => [image.naturalWidth, image.naturalHeight])")
        assert len(sizes) >= 4  # a pair and three classes
        assert all(min(size) > 0 for size in sizes)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_split_that_cannot_be_is_said_and_all_else_shown(words: list[str], cli: Cli, tmp_path: Path) -> None:
    done = cli("scripts/data.py", *words, "data.split=kfold", "data.folds=9", "--out", tmp_path, COLUMNS="200")
    assert re.search(r"split +cannot be split as it stands: data\.small_classes=refuse: .* data\.folds=9", done.stdout)
    assert "dog" in done.stdout
    assert (tmp_path / "data.html").exists()


def test_the_cache_is_listed_and_cleared(survey: tuple[Path, str], words: list[str], cli: Cli) -> None:
    cache = words[-1]
    listed = cli("scripts/data.py", "--cache", cache).stdout
    (row,) = [line for line in listed.splitlines() if "photos" in line]
    name = row.split()[0]
    assert "16x16" in row
    assert "42" in row
    wrong = cli("scripts/data.py", "--cache", "--clear", name[:-1], cache, check=False)
    assert wrong.returncode == 2
    assert f"did you mean '{name}'" in wrong.stderr
    assert "removed" in cli("scripts/data.py", "--cache", "--clear", name, cache).stdout
    assert "no decoded collection is kept" in cli("scripts/data.py", "--cache", cache).stdout


def test_damaged_files_are_said_to_be_left_out_and_counted_nowhere_else(cli: Cli, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "photos", {"cat": 9, "dog": 9}, size=(16, 16))
    (root / "cat" / "broken\n.jpg").write_bytes(b"\xff\xd8")
    where = (
        f"data.root={root}",
        "data.image_size=16",
        f"data.cache_dir={tmp_path / 'cache'}",
        "--out",
        tmp_path / "out",
    )
    shown = cli("scripts/data.py", "data=image_folder", "data.damaged=skip", *where).stdout
    assert re.search(r"images +18, ", shown)
    assert re.search(r"formats +\.png 18 *$", shown, re.MULTILINE)
    assert r"files that cannot be decoded: 1, such as cat/broken\n.jpg" in shown


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["--near", "40"], "--near 40: expected 0 to 16"),
        (["--clear", "all"], "--clear: expected --cache"),
        (["data=image_folder", "data.root=/no/such/folder"], "data.root=/no/such/folder: no such folder"),
        (["data=label_file", "data.root=."], "data.labels: label_file needs it (write data.labels=VALUE)"),
        (["data=cub200"], "data.root: cub200 needs it (write data.root=VALUE)"),
        (["data=digits", "data.root=."], "data.root=.: digits has no use for it; expected null"),
        (["data=digits", "data.fit=pad"], "data.fit=pad: digits has no use for it; expected crop"),
        (["data=image_foldr"], "did you mean 'image_folder'"),
        (["data.imagesize=3"], "did you mean 'data.image_size'"),
    ],
)
def test_bad_input_is_one_line(typed: list[str], says: str, cli: Cli) -> None:
    refused = cli("scripts/data.py", *typed, check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert says in refused.stderr
