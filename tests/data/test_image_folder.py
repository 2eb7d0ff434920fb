"""Image folders: what is found in them, in which order, and what is said of the rest."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import write_folder
from support.messy import CLASSES, write_messy
from support.processes import Cli

from siamese.config.data import Data
from siamese.data.files.find import find
from siamese.data.images import NO_CLASS, LabelledImages
from siamese.data.load import describe
from siamese.decoding.names import few, visible
from siamese.errors import ConfigError, RunError


def found(root: Path, **keys: object) -> LabelledImages:
    return describe(Data(source={"_target_": "siamese.data.image_folder"}, root=str(root), **keys), 0)  # type: ignore[arg-type]


def touch(root: Path, *paths: str) -> Path:
    """Files of no bytes: nothing is opened when a folder is looked through."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_a_plain_folder_is_in_the_order_of_classes_and_names(tmp_path: Path) -> None:
    source = found(write_folder(tmp_path / "images", {"b": 3, "a": 2}))
    assert source.class_names == ("a", "b")
    assert source.ids.tolist() == ["a/000.png", "a/001.png", "b/000.png", "b/001.png", "b/002.png"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.is_validation is None
    assert not source.is_test.any()


def test_nested_images_belong_to_the_first_folder(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/2.png", "a/x/1.png", "a/x/y/0.png", "a/x.png", "b/0.png")
    source = found(root)
    assert source.ids.tolist() == ["a/2.png", "a/x/1.png", "a/x/y/0.png", "a/x.png", "b/0.png"]
    assert source.labels.tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    "folders",
    [
        {"train": "", "test": "test"},
        {"Train": "", "VAL": "val", "Test": "test"},
        {"train": "", "valid": "val", "test": "test"},
        {"train": "", "validation": "val", "test": "test"},
        {"TRAIN": "", "query": "query", "gallery": "gallery"},
    ],
)
def test_parts_by_the_names_of_their_folders(folders: dict[str, str], tmp_path: Path) -> None:
    for i, folder in enumerate(folders):
        touch(tmp_path, f"{folder}/x/1.png", f"{folder}/only{i}/2.png")
    source = found(tmp_path)
    n = len(folders)
    assert source.class_names == (*(f"only{i}" for i in range(n)), "x")
    assert source.labels.tolist() == [label for i in range(n) for label in (i, n)]
    assert [one.split("/")[0] for one in source.ids[::2]] == list(folders)
    parts = np.repeat(list(folders.values()), 2)
    assert source.is_test.tolist() == np.isin(parts, ("test", "query", "gallery")).tolist()
    if "val" in parts:
        assert source.is_validation is not None
        assert source.is_validation.tolist() == (parts == "val").tolist()
    else:
        assert source.is_validation is None
    if "query" in parts:
        assert source.roles is not None
        assert source.roles.tolist() == np.where(parts == "", "", parts).tolist()


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert found(touch(tmp_path, "bus/1.png", "train/1.png", "car/1.png")).class_names == ("bus", "car", "train")


def test_a_folder_without_classes_has_images_of_no_class(tmp_path: Path) -> None:
    source = found(touch(tmp_path, "b.png", "a.png", "notes/x.txt"))
    assert source.ids.tolist() == ["a.png", "b.png"]
    assert source.labels.tolist() == [NO_CLASS] * 2
    assert source.class_names == ()
    parts = found(touch(tmp_path / "split", "train/b.png", "test/a.png"))
    assert parts.ids.tolist() == ["train/b.png", "test/a.png"]
    assert parts.is_test.tolist() == [False, True]


def test_all_that_is_skipped_is_counted_and_nothing_is_lost(tmp_path: Path) -> None:
    images = write_messy(tmp_path / "messy")
    result = find(tmp_path / "messy")
    order = sorted(CLASSES)
    assert result.paths == [path for name in order for path in images[name]]
    assert result.class_names == visible(order)
    assert result.labels == [label for label, name in enumerate(order) for _ in images[name]]
    line = str(result.skipped)
    assert "\n" not in line
    for words in (
        "3 files that are no images (.csv 1, no suffix 1, .txt 1)",
        "5 hidden files and folders",
        "1 class folder without an image (empty)",
        "2 broken links (plain/gone.png, plain/itself.png)",
        "1 link to a folder that it is in (plain/more/up)",
        "1 neither file nor folder (plain/pipe.png)",
        "1 image in no class folder (loose.png)",
    ):
        assert words in line
    everything = [os.path.join(d, f) for d, _, fs in os.walk(tmp_path / "messy") for f in fs]
    inside = sum("/.git/" in path or "/__MACOSX/" in path for path in everything)  # counted as their folders
    known = sum(len(paths) for paths in result.skipped.kinds.values()) - 2 - 2  # those two, and empty/ and up/
    assert len(everything) - inside == len(result.paths) + known


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda root: None, "no such folder"),
    ("a file", lambda root: root.write_text("x"), "expected a folder, found a file"),
    ("empty", lambda root: root.mkdir(), "expected one folder of images a class"),
    (
        "no images",
        lambda root: touch(root, "a/1.txt", "b/2.md"),
        "found none; beside it, 2 files that are no images (.txt",
    ),
    ("no train", lambda root: touch(root, "test/a/1.png", "val/a/1.png"), "found only test, val"),
    ("train alone", lambda root: touch(root, "Train/a/1.png"), "found only Train; use data.root={root}/Train"),
    (
        "a part twice",
        lambda root: touch(root, "train/a/1.png", "val/a/1.png", "valid/a/1.png"),
        "expected one folder of the part val, found val, valid",
    ),
    (
        "a part without classes",
        lambda root: touch(root, "train/a/1.png", "test/1.png", "test/2.png"),
        "found no class folder with images in test (2 images in no class folder); use data.root={root}/train",
    ),
]


@pytest.mark.parametrize(("make", "says"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_root_that_is_refused(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    root = tmp_path / "ro\not"
    make(root)
    with pytest.raises(ConfigError) as error:
        found(root)
    line = str(error.value)
    shown = str(root).replace("\n", "\\n")
    assert line.startswith(f"data.root={shown}: ")
    assert says.format(root=shown) in line
    assert "\n" not in line


def unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have ``folder`` refuse to be listed, as it does to a user who is not root."""
    scandir = os.scandir

    def refusing(path: str | os.PathLike[str]) -> object:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)


@pytest.mark.parametrize(
    ("folder", "says"),
    [("", "cannot be read (Permission denied)"), ("b", "found no image in b; b cannot"), ("b/x", "b/x cannot be read")],
)
def test_a_folder_that_cannot_be_read_takes_no_class_with_it(
    folder: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = touch(tmp_path, "a/1.png", "b/x/1.png")
    unreadable(root / folder, monkeypatch)
    with pytest.raises(RunError, match=r"^data\.root=") as error:
        found(root)
    assert says in str(error.value)


def test_an_unreadable_folder_beside_images_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = touch(tmp_path, "a/1.png", "a/x/2.png", "b/1.png")
    unreadable(root / "a" / "x", monkeypatch)
    result = find(root)
    assert result.paths == ["a/1.png", "b/1.png"]
    assert str(result.skipped) == "1 folder that cannot be read (a/x)"


NAMES = st.binary(min_size=1, max_size=6).filter(lambda b: b"/" not in b and b"\0" not in b)


@given(st.sets(NAMES | st.sampled_from([b"\xff", rb"\xff", rb"\\xff", b"a\xfe", rb"a\xfe"]), min_size=1))
@settings(max_examples=300)
def test_names_of_any_bytes_become_text_and_stay_different(raw: set[bytes]) -> None:
    names = sorted(map(os.fsdecode, raw))
    texts = visible(names)
    assert len(set(texts)) == len(names)
    for name, text in zip(names, texts, strict=True):
        text.encode()
        try:
            name.encode()
        except UnicodeEncodeError:
            continue
        assert text == name


def test_few_names_and_how_many_more() -> None:
    assert few(["a", "b\n", "c\udcff"]) == "a, b\\n, c\\xff"
    assert few([str(i) for i in range(1234)]) == "0, 1, 2, 3, 4 and 1,229 more"


def test_a_messy_folder_trains_from_the_command_line(train_cli: Cli, tmp_path: Path) -> None:
    images = write_messy(tmp_path / "messy")
    damaged = tmp_path / "messy" / "plain" / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff not a photograph")
    words = [
        "data=image_folder",
        f"data.root={tmp_path / 'messy'}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "data.image_size=16",
        "data.batch_size=4",
        "data.mean=null",
        "data.std=null",
        "model=conv_small",
        "model.width=4",
        "trainer.max_epochs=1",
        "figures.draw=false",
        "device=cpu",
    ]
    refused = train_cli(*words, f"hydra.run.dir={tmp_path / 'refused'}", check=False)
    assert refused.returncode == 1
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    total = sum(map(len, images.values()))
    assert f"1 of {total + 1} images cannot be decoded: plain/damaged.jpg: " in line
    assert "Traceback" not in refused.stderr
    done = train_cli(*words, "data.damaged=skip", f"hydra.run.dir={tmp_path / 'run'}")
    assert "Traceback" not in done.stdout + done.stderr
    assert "3 files that are no images (.csv 1, no suffix 1, .txt 1)" in done.stdout
    assert f"left out what is damaged: 1 of {total + 1} images" in done.stdout
    assert "decoded" not in done.stdout.replace("cannot be decoded", "")  # the first try had decoded all
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["images"] == total
    assert manifest["data"]["classes"] == visible(sorted(CLASSES))
    shutil.rmtree(tmp_path / "cache")
    done = train_cli(*words, "data.damaged=skip", f"hydra.run.dir={tmp_path / 'again'}")
    again = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert again["data"] == manifest["data"]
    for note in (
        "9 images with several frames or pages, of which the first counts",
        "6 images with values of no fixed range",
        "6 images with CMYK colours and no profile",
        f"decoded {total} images of",
    ):
        assert note in done.stdout, note


def test_an_image_by_its_name_alone_is_damaged_and_without_one_is_no_image(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images", {"a": 2, "b": 2})
    Image.open(root / "a" / "000.png").save(root / "a" / "no suffix", "PNG")
    Image.open(root / "a" / "000.png").save(root / "a" / "photo.xyz", "PNG")
    (root / "b" / "page.png").write_text("<html>")
    result = find(root)
    assert "b/page.png" in result.paths
    assert str(result.skipped) == "2 files that are no images (no suffix 1, .xyz 1)"
    with pytest.raises(RunError, match=r"b/page.png: not an image that can be read"):
        found(root).images[np.array([result.paths.index("b/page.png")])]


@pytest.mark.slow
def test_a_run_does_not_go_on_with_a_collection_that_has_changed(train_cli: Cli, tmp_path: Path) -> None:
    photos = write_folder(tmp_path / "photos", {"cat": 12, "dog": 12}, size=(16, 16))
    words = ("data=image_folder", f"data.root={photos}", f"data.cache_dir={tmp_path}/cache", "data.image_size=16")
    more = ("model=conv_small", "data.batch_size=4", "trainer.max_epochs=1", "figures.draw=false", "device=cpu")
    train_cli(*words, *more, f"hydra.run.dir={tmp_path}/run")
    before = (tmp_path / "run" / "metrics.csv").read_text()
    moved = photos / "cat" / "000.png"
    moved.rename(tmp_path / "000.png")
    refused = train_cli(f"resume={tmp_path}/run", "trainer.max_epochs=2", check=False)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line]
    assert "the data of the run has changed: 23 images, 24 when it began" in line
    assert (tmp_path / "run" / "metrics.csv").read_text() == before
    (tmp_path / "000.png").rename(moved)
    train_cli(f"resume={tmp_path}/run", "trainer.max_epochs=2")
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 4
