"""Processes that decode: the same as one does alone, and what is left when something stops them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from support.images import write_folder
from support.processes import ROOT

from siamese.config.data import Data
from siamese.data.files import cache, grow
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.decoding import formats, pool
from siamese.errors import RunError

SIDE, COUNT = 8, 60
ROW = 3 * SIDE * SIDE
BROKEN = ("a/004.png", "a/017.png", "b/029.png")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 60 images, which is large enough for processes; few of them are a task."""
    monkeypatch.setattr(grow, "ALONE", 0)
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


def test_a_killed_process_is_one_line_with_its_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = pool.Worker.take

    def killed(self: pool.Worker, task: pool.Task) -> None:
        if task.first == 40:
            self.process.kill()
        take(self, task)

    with monkeypatch.context() as patch:
        patch.setattr(pool.Worker, "take", killed)
        with pytest.raises(RunError) as error:
            decoded(root, 2)
    assert str(error.value) == (
        "a process was killed (SIGKILL) while it decoded one of b/010.png, b/011.png, b/012.png, b/013.png (too little "
        "memory may be free: set data.decode_workers=1); what was decoded is kept"
    )
    assert 32 <= len(kept(root)["rows"]) <= 56  # type: ignore[arg-type]
    assert len(decoded(root, 2).ids) == COUNT


def test_a_process_that_cannot_start_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match=r"a process to decode images ended \(exit status 1\) before it began$"):
        decoded(root, 2)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RunError, match=r"a process to decode images cannot be started \(No such file or directory\)$"):
        decoded(root, 2)


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


def test_an_interrupt_ends_the_processes_and_keeps_what_is_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, workers = pool.Worker.answer, list[pool.Worker]()

    def interrupted(self: pool.Worker) -> dict[str, object]:
        workers.append(self)
        if len(workers) == 8:
            raise KeyboardInterrupt
        return answer(self)

    with monkeypatch.context() as patch:
        patch.setattr(pool.Worker, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            decoded(root, 2)
    assert {worker.process.returncode for worker in workers} == {-signal.SIGKILL}
    assert len(kept(root)["rows"]) in (4 * 5, 4 * 6)  # type: ignore[arg-type]  # the first answer of each is a greeting
    assert len(decoded(root, 2).ids) == COUNT


class Toy(ImageFile.ImageFile):
    """A format of raw grey pixels."""

    format = "TOY"

    def _open(self) -> None:
        self._mode, self._size = "L", (SIDE, SIDE)
        self.tile = [ImageFile._Tile("raw", (0, 0, SIDE, SIDE), 4, ("L", 0, 1))]


@pytest.fixture
def toy() -> Iterator[None]:
    Image.init()
    Image.register_open("TOY", Toy, lambda prefix: prefix.startswith(b"TOY!"))
    Image.register_extension("TOY", ".toy")
    formats.formats.cache_clear()
    formats.suffixes.cache_clear()
    yield
    del Image.OPEN["TOY"], Image.EXTENSION[".toy"]
    Image.ID.remove("TOY")
    formats.formats.cache_clear()
    formats.suffixes.cache_clear()


@pytest.mark.usefixtures("toy")
def test_a_format_that_only_this_process_knows_is_decoded(root: Path) -> None:
    pixels = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)
    (root / "a" / "mine.toy").write_bytes(b"TOY!" + pixels.tobytes())
    (root / "a" / "broken.toy").write_bytes(b"TOY?")
    source = decoded(root, 2)
    assert len(source.ids) == COUNT + 1
    (place,) = np.flatnonzero(source.ids == "a/mine.toy")
    assert np.array_equal(source.images[place : place + 1][0].numpy(), np.stack([pixels] * 3))


ORPHANED = """
import os, sys
from pathlib import Path
from siamese.decoding.decode import Decoding
from siamese.decoding.pool import decode_in_processes
from siamese.data.files.lock import locked
root = Path(sys.argv[1])
with locked(root / "cache", wait=True) as lock, open(root / "pixels", "wb") as file:
    how = Decoding(8, "crop", [0, 0, 0], "refuse", None, 1)
    list(decode_in_processes((file.fileno(), lock), 0, root, ["pipe.png"], how))
"""


def test_a_process_whose_parent_is_killed_keeps_the_lock_while_it_decodes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")  # which the process reads until it is closed
    parent = subprocess.Popen([sys.executable, "-c", ORPHANED, str(tmp_path)], cwd=ROOT)
    deadline, pipe = time.monotonic() + 60, -1
    while pipe < 0:
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
        with contextlib.suppress(OSError):  # until the process has begun to read
            pipe = os.open(tmp_path / "pipe.png", os.O_WRONLY | os.O_NONBLOCK)
    parent.kill()
    parent.wait()
    with open(pipe, "wb"), open(tmp_path / "cache" / ".lock", "rb") as lock, pytest.raises(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(tmp_path / "cache" / ".lock", "rb") as lock:
        deadline = time.monotonic() + 20
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
