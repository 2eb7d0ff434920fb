"""Threads that decode: the same as one does alone, and what is left when something stops them."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.images import write_folder
from support.processes import ROOT

from siamese.config.data import Data
from siamese.data.files import cache, grow
from siamese.data.files.index import Index, read_index
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.decoding import pool
from siamese.errors import RunError

SIDE, COUNT = 8, 60
ROW = 3 * SIDE * SIDE
BROKEN = ("a/004.png", "a/017.png", "b/029.png")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 60 images; few of them are a task."""
    monkeypatch.setattr(pool, "TOGETHER", 4)
    write_folder(tmp_path / "images", {"a": COUNT // 2, "b": COUNT // 2}, size=(SIDE, SIDE))
    return tmp_path / "images"


def decoded(root: Path, workers: int, name: str = "cache") -> LabelledImages:
    where = {"root": str(root), "cache_dir": str(root.parent / name), "decode_workers": workers}
    source = {"_target_": "siamese.data.image_folder"}
    return cache.decoded(describe(Data(source=source, image_size=SIDE, damaged="skip", **where), 0))  # type: ignore[arg-type]


def kept(root: Path, name: str = "cache") -> dict[str, object]:
    """The index of what is decoded."""
    (folder,) = (root.parent / name).iterdir()
    index: dict[str, object] = json.loads((folder / "index.json").read_text())
    return index | {"bytes": (folder / str(index["pixels"])).read_bytes(), "stamp": None}


def test_any_number_of_workers_leaves_the_same_bytes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in BROKEN:
        (root / path).write_bytes(b"\x89PNG\r\n\x1a\n")
    for path in ("a/001.png", "b/020.png"):
        frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
        frames[0].save(root / path, save_all=True, append_images=frames[1:])
    caplog.set_level("INFO")
    said, found = [], []
    for workers in (1, 2, 3):
        caplog.clear()
        source = decoded(root, workers, str(workers))
        expected = [np.asarray(Image.open(root / one).convert("RGB")).transpose(2, 0, 1) for one in source.ids]
        assert np.array_equal(source.images[:].numpy(), np.stack(expected))
        found.append(kept(root, str(workers)))
        said.append([line.replace(f"/{workers}/", "/W/") for line in caplog.messages])
    assert found[0] == found[1] == found[2]
    assert said[0] == said[1] == said[2]
    assert any("2 images with several frames" in line and line.endswith("a/001.png, b/020.png") for line in said[0])
    assert found[0]["count"] == COUNT - 1  # the rows of damaged files are left empty, but the last
    assert found[0]["rows"] == [i for i, path in enumerate(sorted(each_of(root))) if path not in BROKEN]


def each_of(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*.png")]


def test_files_that_stay_damaged_take_no_room(root: Path) -> None:
    for path in BROKEN:
        (root / path).write_bytes(b"")
    decoded(root, 2)
    before = kept(root)
    decoded(root, 2)  # tries them again
    assert kept(root) == before


def test_a_full_disk_is_one_line_and_loses_nothing(root: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (42 * ROW, limits[1]))
    try:
        with pytest.raises(
            RunError, match=r"^data\.cache_dir=.*cache: cannot be written to \(File too large\); choose another folder$"
        ):
            decoded(root, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert 32 <= len(kept(root)["rows"]) <= 40  # type: ignore[arg-type]
    assert len(decoded(root, 2).ids) == COUNT


def test_an_interrupt_ends_the_threads_and_keeps_what_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, taken = grow._take, list[int]()

    def interrupted(index: Index, row: int, *others: Any) -> None:
        take(index, row, *others)
        taken.append(row)
        if len(taken) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grow, "_take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoded(root, 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert len(kept(root)["rows"]) == 5 * 4  # type: ignore[arg-type]
    assert len(decoded(root, 2).ids) == COUNT


KILLED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from decoding import test_pool
from siamese.data.files import grow
from siamese.data.files.index import read_index
from siamese.decoding import pool, rows
pool.TOGETHER, grow.SAVED, decode = 4, float(sys.argv[2]), rows.decode
def kept():
    index = next(map(read_index, (Path(sys.argv[1]).parent / "cache").iterdir()))
    return index.rows if index else ()
def killed(path, decoding):
    if path.name == "020.png" and path.parent.name == "b":
        while not grow.SAVED and not len(kept()) >= 40:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return decode(path, decoding)
rows.decode = killed
test_pool.decoded(Path(sys.argv[1]), 2)
"""


@pytest.mark.parametrize(("saved", "least"), [(0, 40), (60, 0)])
def test_a_killed_process_loses_what_it_decoded_since_it_saved(saved: int, least: int, root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(root), str(saved)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    (folder,) = (root.parent / "cache").iterdir()
    index = read_index(folder)
    assert (0 if index is None else len(index.rows)) in range(least, 57 if least else 1)
    before = set[str]() if index is None else set(index.rows)
    source = decoded(root, 2)
    expected = [np.asarray(Image.open(root / one).convert("RGB")).transpose(2, 0, 1) for one in source.ids]
    assert np.array_equal(source.images[:].numpy(), np.stack(expected))
    after = read_index(folder)
    assert after is not None
    assert index is None or all(after.rows[path] == index.rows[path] for path in before)  # none is decoded again
