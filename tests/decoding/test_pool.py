"""Threads that decode: the same as one does alone, and what is left when something stops them."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.images import write_folder

from siamese.config.data import Data
from siamese.data.files import cache, grow
from siamese.data.files.index import Index, read_index
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.decoding import pool, rows
from siamese.decoding.decode import Decoded, Decoding
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


@pytest.mark.parametrize(("saved", "least"), [(0, 40), (60, 0)])
def test_a_killed_process_loses_what_it_decoded_since_it_saved(
    saved: int, least: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = rows.decode

    def there() -> Index | None:
        (folder,) = (root.parent / "cache").iterdir()
        return read_index(folder)

    def killed(file: Path, decoding: Decoding) -> Decoded:
        if file == root / "b" / "020.png":
            while not saved and len(getattr(there(), "rows", ())) < least:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(file, decoding)

    with monkeypatch.context() as patch:
        patch.setattr(rows, "decode", killed)
        patch.setattr(grow, "SAVED", saved)
        process = multiprocessing.get_context("fork").Process(target=decoded, args=(root, 2))
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    index = there()
    assert (0 if index is None else len(index.rows)) in range(least, 57 if least else 1)
    before = set[str]() if index is None else set(index.rows)
    source = decoded(root, 2)
    expected = [np.asarray(Image.open(root / one).convert("RGB")).transpose(2, 0, 1) for one in source.ids]
    assert np.array_equal(source.images[:].numpy(), np.stack(expected))
    after = there()
    assert after is not None
    assert index is None or all(after.rows[path] == index.rows[path] for path in before)  # none is decoded again
