"""Decoded pixels: what is decoded, what is kept, what is noticed, and what is read."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from support.images import write_folder
from support.processes import Cli

from siamese.config.data import Data
from siamese.data import SiameseData, images
from siamese.data.files import cache, grow, index, lock
from siamese.data.files.listing import cached_collections, clear
from siamese.data.files.lock import locked
from siamese.data.files.stored import StoredImages
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.decoding import pool, rows
from siamese.errors import ConfigError, RunError

SIDE = 8
ROW = 3 * SIDE * SIDE


class Folder:
    """Image files, their cache, and which of them were decoded since one last looked."""

    def __init__(self, path: Path) -> None:
        self.root, self.cache_dir, self.decoded = path / "images", path / "cache", list[str]()

    def __call__(self, **keys: object) -> LabelledImages:
        self.decoded.clear()
        return cache.decoded(describe(self.data(**keys), 0))

    def data(self, **keys: object) -> Data:
        source = {"_target_": "siamese.data.image_folder"}
        given = {"root": str(self.root), "cache_dir": str(self.cache_dir), "image_size": SIDE, **keys}
        return Data(source=source, **given)  # type: ignore[arg-type]

    def expected(self, source: LabelledImages) -> torch.Tensor:
        """The pixels of ``source``, whose files are as large as is wanted, by Pillow alone."""
        pixels = [np.asarray(Image.open(self.root / one).convert("RGB")) for one in source.ids]
        return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)

    def check(self, **keys: object) -> list[str]:
        """Have the images, see that they are those of the files, and say which were decoded for it."""
        source = self(**keys)
        assert torch.equal(source.images[:], self.expected(source))
        return sorted(self.decoded)

    @property
    def kept(self) -> Path:
        (folder,) = self.cache_dir.iterdir()
        return folder

    @property
    def pixels(self) -> Path:
        (file,) = self.kept.glob("pixels-*.bin")
        return file

    def change(self, path: str, level: int) -> None:
        Image.fromarray(np.full((SIDE, SIDE, 3), level, np.uint8)).save(self.root / path)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    folder = Folder(tmp_path)
    write_folder(folder.root, {"a": 6, "b": 6}, size=(SIDE, SIDE))
    decode = rows.decode

    def counting(file: Path, decoding: Any) -> Any:
        folder.decoded.append(file.relative_to(folder.root).as_posix())
        return decode(file, decoding)

    monkeypatch.setattr(rows, "decode", counting)
    return folder


def all_of(folder: Folder) -> list[str]:
    return sorted(path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*.png"))


# -- what is decoded -------------------------------------------------------------------------------


def test_only_what_is_new_or_has_changed_is_decoded(folder: Folder) -> None:
    assert folder.check() == all_of(folder)
    assert folder.check() == []
    folder.change("a/new.png", 7)
    assert folder.check() == ["a/new.png"]
    folder.change("b/001.png", 9)
    assert folder.check() == ["b/001.png"]
    os.utime(folder.root / "b" / "002.png", ns=(1, 1))
    assert folder.check() == ["b/002.png"]
    (folder.root / "a" / "000.png").unlink()
    assert folder.check() == []
    assert folder.check(images_per_class=2) == []
    assert folder.pixels.stat().st_size == 15 * ROW


@pytest.mark.parametrize(
    "other", [{"image_size": 5}, {"image_size": [8, 5]}, {"fit": "pad"}, {"background": [0, 0, 0]}]
)
def test_another_way_of_decoding_has_a_folder_of_its_own(other: dict[str, Any], folder: Folder) -> None:
    folder()
    folder(**other)
    assert sorted(folder.decoded) == all_of(folder)
    folder()
    assert folder.decoded == []
    assert len(list(folder.cache_dir.iterdir())) == 2


def test_who_reads_older_rows_is_not_disturbed(folder: Folder) -> None:
    before = folder()
    expected = before.images[:]
    for level, path in enumerate(all_of(folder)):
        folder.change(path, level)
    assert folder.check() == all_of(folder)
    assert torch.equal(before.images[:], expected)


def test_rows_of_files_that_are_gone_make_way(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grow, "WASTE", 0)
    before = folder()
    expected, first = before.images[:], folder.pixels
    for i in range(5):
        (folder.root / "a" / f"00{i}.png").unlink()
        folder.change("b/000.png", i)
        folder.check()
    assert folder.pixels != first
    assert folder.pixels.stat().st_size < 12 * ROW
    assert folder.check() == []
    assert torch.equal(before.images[:], expected)  # of a file that has no name any more


def test_rows_of_a_collection_that_is_used_in_part_stay(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grow, "WASTE", 0)
    folder()
    folder.change("a/000.png", 3)
    source = describe(folder.data(), 0)
    few = source.take(np.flatnonzero(np.isin(source.ids, ["a/000.png", "b/000.png"])))
    folder.decoded.clear()
    assert torch.equal(cache.decoded(few).images[:], folder.expected(few))
    assert folder.decoded == ["a/000.png"]
    assert folder.check() == []


# -- what is kept when something stops it ----------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")])
def test_what_was_decoded_before_a_stop_is_kept(
    error: BaseException, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "TOGETHER", 4)
    decode = rows.decode

    def stopping(file: Path, decoding: Any) -> Any:
        if file.name == "004.png" and file.parent.name == "b":
            raise error
        return decode(file, decoding)

    with monkeypatch.context() as patch:
        patch.setattr(rows, "decode", stopping)
        with pytest.raises(type(error)):
            folder()
    assert folder.check() == all_of(folder)[8:]


def test_a_full_disk_is_one_line_and_loses_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "TOGETHER", 4)
    pwrite, room = os.pwrite, 6 * ROW

    def filling(descriptor: int, content: memoryview, place: int) -> int:
        if place + len(content) > room:
            if place >= room:
                raise OSError(errno.ENOSPC, "No space left on device")
            content = content[: room - place]
        return pwrite(descriptor, content, place)

    with monkeypatch.context() as patch:
        patch.setattr(rows.os, "pwrite", filling)
        with pytest.raises(RunError) as failed:
            folder()
    expected = (
        f"data.cache_dir={folder.cache_dir}: cannot be written to (No space left on device); choose another folder"
    )
    assert str(failed.value) == expected
    assert folder.check() == all_of(folder)[4:]


def test_what_a_killed_process_left_at_the_end_is_written_over(folder: Folder) -> None:
    folder()
    with folder.pixels.open("ab") as file:
        file.write(b"x" * (ROW + 5))
    folder.change("a/new.png", 1)
    assert folder.check() == ["a/new.png"]
    assert folder.pixels.stat().st_size == 13 * ROW


# -- what is noticed -------------------------------------------------------------------------------


def test_a_file_cut_short_is_decoded_anew_from_there(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder()
    os.truncate(folder.pixels, 5 * ROW + 3)
    caplog.set_level(logging.INFO)
    assert folder.check() == all_of(folder)[5:]
    assert "7 images are not as written" in caplog.text
    assert "decoded 7 images" in caplog.text
    assert "5 there already" in caplog.text
    assert folder.check() == []


@pytest.mark.parametrize("whole", [0, 2**40], ids=["large, by its time of change", "small, always"])
def test_altered_bytes_are_noticed(whole: int, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WHOLE", whole)
    folder()
    status = folder.pixels.stat()
    with folder.pixels.open("r+b") as file:
        file.seek(3 * ROW + 17)
        byte = file.read(1)[0]
        file.seek(3 * ROW + 17)
        file.write(bytes([byte ^ 1]))
    os.utime(folder.pixels, ns=(1, status.st_mtime_ns if whole else 12345))
    assert folder.check() == ["a/003.png"]
    assert folder.check() == []


def test_a_large_file_that_is_as_it_was_is_not_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WHOLE", 0)
    folder()
    monkeypatch.setattr(index, "_checksums", None)
    assert folder.check() == []


def test_a_copied_cache_is_read_once_and_then_known(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "WHOLE", 0)
    folder()
    os.utime(folder.pixels, ns=(5, 5))
    assert folder.check() == []
    monkeypatch.setattr(index, "_checksums", None)
    assert folder.check() == []


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edit(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return edit


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "no JSON": lambda path: path.write_bytes(b"\x80\0"),
    "another kind": lambda path: path.write_text("[1, 2]"),
    "a deep one": lambda path: path.write_text("[" * 100_000),
    "gone": Path.unlink,
    "a key missing": edited(lambda c: c.pop("crcs")),
    "a column short": edited(lambda c: c["sizes"].pop()),
    "text for a number": edited(lambda c: c["rows"].__setitem__(0, "0")),
    "below zero": edited(lambda c: c["rows"].__setitem__(0, -1)),
    "a huge number": edited(lambda c: c["mtimes"].__setitem__(0, 2**70)),
    "beyond the count": edited(lambda c: c["rows"].__setitem__(0, 12)),
    "no count": edited(lambda c: c.__setitem__("count", None)),
    "a path that is none": edited(lambda c: c["paths"].__setitem__(0, 5)),
    "another folder's pixels": edited(lambda c: c.__setitem__("pixels", "../../../etc/passwd")),
    "pixels that are not there": edited(lambda c: c.__setitem__("pixels", "pixels-7.bin")),
    "another root": edited(lambda c: c.__setitem__("root", "/else")),
    "no size": edited(lambda c: c.__setitem__("size", [0, 0])),
    "a stamp of one": edited(lambda c: c.__setitem__("stamp", [1])),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_index_is_like_none(damage: Callable[[Path], object], folder: Folder) -> None:
    before = folder()
    expected = before.images[:]
    damage(folder.kept / "index.json")
    folder.change("a/000.png", 1)
    assert folder.check() == all_of(folder)
    assert folder.check() == []
    assert torch.equal(before.images[:], expected)
    assert folder.pixels.stat().st_size == 12 * ROW


def test_no_other_file_is_written_to(folder: Folder, tmp_path: Path) -> None:
    folder()
    (tmp_path / "mine").write_bytes(b"x" * 13 * ROW)
    edited(lambda c: c.__setitem__("pixels", str(tmp_path / "mine")))(folder.kept / "index.json")
    assert folder.check() == all_of(folder)
    assert (tmp_path / "mine").read_bytes() == b"x" * 13 * ROW


def test_two_rows_exchanged_in_the_index_are_noticed(folder: Folder) -> None:
    folder()
    edited(lambda c: c["rows"].__setitem__(slice(0, 2), [1, 0]))(folder.kept / "index.json")
    assert folder.check() == all_of(folder)[:2]


def test_missing_pixels_are_decoded_anew(folder: Folder) -> None:
    folder()
    folder.pixels.unlink()
    assert folder.check() == all_of(folder)


# -- processes -------------------------------------------------------------------------------------


def _decode_in_a_process(folder: Folder, start: Any, answers: Any) -> None:
    decode, said = rows.decode, list[str]()

    def slow(file: Path, decoding: Any) -> Any:
        time.sleep(0.005)
        return decode(file, decoding)

    rows.decode = slow
    lock.log.setLevel(logging.INFO)
    lock.log.addHandler(handler := logging.Handler())
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    source = describe(folder.data(), 0)
    start.wait()
    fingerprint = cache.decoded(source).fingerprint
    answers.put((os.getpid(), len(folder.decoded), fingerprint, said))


def test_processes_decode_each_file_once(folder: Folder) -> None:
    write_folder(folder.root / "more", {"c": 60}, size=(SIDE, SIDE))
    forked = multiprocessing.get_context("fork")
    start, answers = forked.Barrier(3), forked.Queue()
    processes = [forked.Process(target=_decode_in_a_process, args=(folder, start, answers)) for _ in range(3)]
    for process in processes:
        process.start()
    said = sorted((answers.get(timeout=60) for _ in processes), key=lambda answer: answer[1])
    for process in processes:
        process.join()
    assert [count for _, count, _, _ in said] == [0, 0, 72]
    assert len({fingerprint for _, _, fingerprint, _ in said}) == 1
    assert said[2][3] == []
    for _, _, _, (line,) in said[:2]:
        assert "which decodes into it" in line
    assert folder.check() == []


def test_a_lock_of_a_folder_that_was_removed_is_taken_again(tmp_path: Path) -> None:
    entered = threading.Event()

    def second() -> bool:
        with locked(tmp_path / "x", wait=True):
            entered.set()
            return (tmp_path / "x" / lock.LOCK).exists()

    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path / "x", wait=True):
            waiting = pool.submit(second)
            time.sleep(0.05)
            assert not entered.is_set()
            shutil.rmtree(tmp_path / "x")
        assert waiting.result(10)


# -- caches that cannot be written -----------------------------------------------------------------


@contextlib.contextmanager
def read_only(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have nothing in the cache opened for writing, as on a file system that is mounted so."""
    real = os.open

    def refusing(path: Any, flags: int, *mode: Any, **more: Any) -> int:
        if str(path).startswith(str(folder.cache_dir)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *mode, **more)

    def unwritable(*args: Any, **more: Any) -> None:
        raise RunError("could not be written (Read-only file system)")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        patch.setattr("siamese.data.files.stored.atomic", unwritable)
        yield


def test_a_cache_that_cannot_be_written_serves_what_it_has(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder()
    (folder.root / "a" / "broken.png").write_bytes(b"\x89PNG")
    with read_only(folder, monkeypatch):
        source = folder(damaged="skip")
        assert folder.decoded == []
        assert torch.equal(source.images[:], folder.expected(source))
        assert source.fingerprint == folder(damaged="skip").fingerprint
        (folder.root / "a" / "broken.png").unlink()
        assert folder.check() == []
        folder.change("a/new.png", 3)
        with pytest.raises(RunError) as error:
            folder()
    where = f"data.cache_dir={folder.cache_dir}"
    assert str(error.value) == f"{where}: cannot be written to (Read-only file system); choose another folder"


def test_a_file_in_the_place_of_the_cache(folder: Folder) -> None:
    folder.cache_dir.write_text("x")
    with pytest.raises(
        RunError, match=r"^data\.cache_dir=.*cache: cannot be written to \((Not a directory|File exists)\)"
    ):
        folder()


def test_a_home_that_cannot_be_written_to_is_one_line(folder: Folder, train_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder, so that nothing can be written below it, even by root")
    words = ("data=image_folder", f"data.root={folder.root}", "model=conv_small", f"hydra.run.dir={tmp_path / 'run'}")
    done = train_cli(*words, "device=cpu", check=False, HOME=str(tmp_path / "home"), XDG_CACHE_HOME="")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"data.cache_dir={tmp_path}/home/.cache/siamese: cannot be written to (Not a directory)" in done.stderr
    assert "choose another folder" in done.stderr


# -- damaged files ---------------------------------------------------------------------------------


def test_all_damaged_files_are_refused_at_once_and_the_others_kept(folder: Folder) -> None:
    broken = [f"b/broken{i}.png" for i in range(7)]
    for path in broken:
        (folder.root / path).write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RunError) as error:
        folder()
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"data.root={folder.root}: 7 of 19 images cannot be decoded: b/broken0.png: ")
    assert line.count("b/broken") == 5
    assert "; and 2 more; repair or remove them, or set data.damaged=skip" in line
    source = folder(damaged="skip")
    assert sorted(folder.decoded) == broken  # nothing else
    assert len(source.ids) == len(source.images) == len(source.labels) == 12
    assert torch.equal(source.images[:], folder.expected(source))


def test_no_class_goes_with_damaged_files(folder: Folder) -> None:
    write_folder(folder.root / "c", {"deep": 1}, size=(SIDE, SIDE))
    (folder.root / "c" / "deep" / "000.png").write_bytes(b"")
    with pytest.raises(RunError, match="no image is left of 1 class: c"):
        folder(damaged="skip")


def test_no_class_goes_from_a_part(folder: Folder) -> None:
    shutil.rmtree(folder.root)
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        write_folder(folder.root / part, {"x": count, "y": 2}, size=(SIDE, SIDE))
    (folder.root / "val" / "x" / "000.png").write_bytes(b"")
    assert len(folder(damaged="skip").ids) == 11
    (folder.root / "test" / "x" / "000.png").write_bytes(b"")
    with pytest.raises(RunError, match=r"no image is left of 1 class: x \(test\)"):
        folder(damaged="skip")


def test_no_image_is_left(folder: Folder) -> None:
    for path in all_of(folder):
        (folder.root / path).write_bytes(b"")
    with pytest.raises(RunError, match=r"12 of 12 images cannot be decoded.*none is left"):
        folder(damaged="skip")


def test_a_file_that_goes_while_it_is_looked_for_is_damaged(folder: Folder) -> None:
    source = describe(folder.data(damaged="skip"), 0)
    (folder.root / "a" / "000.png").unlink()
    assert len(cache.decoded(source).ids) == 11


# -- what is read ----------------------------------------------------------------------------------


@given(
    rows=st.lists(st.integers(0, 29), min_size=1, max_size=40),
    asked=st.lists(st.integers(-1, 39), max_size=30) | st.slices(40),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
@settings(deadline=None)
def test_stored_images_are_rows_of_the_file(
    rows: list[int], asked: list[int] | slice, size: tuple[int, int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.bin"
    content = np.random.default_rng(0).integers(0, 256, (30, 3, *size), dtype=np.uint8)
    path.write_bytes(content.tobytes())
    chosen = torch.from_numpy(content[rows])
    if isinstance(asked, slice):  # none that runs backwards, as for tensors
        asked = slice(asked.start, asked.stop, abs(asked.step or 1))
    with path.open("rb", buffering=0) as file:
        stored = StoredImages(file, path.parent, np.array(rows), np.zeros(len(rows), np.int64), size)
        at = asked if isinstance(asked, slice) else torch.tensor([i % len(rows) for i in asked], dtype=torch.int64)
        assert torch.equal(stored[at], chosen[at])
        assert stored.shape == chosen.shape
        assert stored.nbytes == chosen.nbytes
        some = np.arange(0, len(rows), 2)
        assert torch.equal(stored.take(some)[:], chosen[some])


def test_only_what_is_asked_for_is_read_and_neighbours_together(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = folder().images
    reads, preadv = [], os.preadv
    monkeypatch.setattr(
        os, "preadv", lambda fd, to, at: reads.append((at // ROW, len(to[0]) // ROW)) or preadv(fd, to, at)
    )
    stored[torch.tensor([3, 4, 5, 0, 11, 10])]
    assert reads == [(3, 3), (0, 1), (11, 1), (10, 1)]


def test_threads_read_at_once(folder: Folder) -> None:
    stored = folder().images
    whole, random = stored[:], np.random.default_rng(0)
    asked = [torch.from_numpy(random.integers(0, 12, 7)) for _ in range(200)]
    with ThreadPoolExecutor(4) as pool:
        for index_, got in zip(asked, pool.map(stored.__getitem__, asked), strict=True):
            assert torch.equal(got, whole[index_])


def test_a_file_cut_short_under_a_reader_is_one_line(folder: Folder) -> None:
    stored = folder().images
    os.truncate(folder.pixels, 2 * ROW)
    assert len(stored[torch.tensor([1])]) == 1
    with pytest.raises(RunError, match="was cut short while it was in use"):
        stored[torch.tensor([2])]


# -- facts -----------------------------------------------------------------------------------------


def test_facts_are_those_of_images_in_memory_and_computed_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder.root)
    write_folder(folder.root, {"a": 20, "b": 20}, size=(SIDE, SIDE))
    source = folder()
    in_memory = LabelledImages(source.images[:], source.labels, source.class_names, source.ids, source.is_test)

    def facts(of: LabelledImages, seed: int = 0) -> list[Any]:
        data = SiameseData(of, folder.data(batch_size=4), seed)
        return [of.fingerprint, data.mean, data.std]

    expected = facts(in_memory)
    assert facts(source) == expected
    other = facts(in_memory, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(images, "blocks", None)
        assert facts(folder()) == expected
        with pytest.raises(TypeError):
            facts(folder(), seed=1)  # of other training images
    assert facts(folder(), seed=1) == other
    other_labels = LabelledImages(**{**vars(source), "labels": 1 - source.labels})
    other_ids = LabelledImages(**{**vars(source), "ids": source.ids[::-1]})
    assert len({of.fingerprint for of in (source, other_labels, other_ids)}) == 3
    folder.change("a/003.png", 200)
    changed = folder()
    assert changed.fingerprint != expected[0]
    assert changed.fingerprint == LabelledImages(**{**vars(changed), "images": changed.images[:]}).fingerprint


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"[]", b"{}", b'{"n": 3}', b"altered", b"["],
)
def test_facts_that_are_damaged_are_computed(content: bytes, folder: Folder) -> None:
    stored = folder().images
    assert stored.kept("n", "k", lambda: [1.5, "x"]) == [1.5, "x"]
    assert stored.kept("n", "k", lambda: 2) == [1.5, "x"]
    assert stored.kept("n", "other", lambda: 2) == 2
    file = folder.kept / "facts.json"
    file.write_bytes(file.read_bytes().replace(b"1.5", b"1.6") if content == b"altered" else content)
    assert stored.kept("n", "k", lambda: 3) == 3
    assert stored.kept("n", "k", lambda: 4) == 3


def test_facts_depend_on_the_pixels_and_their_order(folder: Folder) -> None:
    stored = folder().images
    assert stored.kept("n", "k", lambda: 1) == 1
    assert stored.take(np.arange(12)).kept("n", "k", lambda: 2) == 1
    assert stored.take(np.arange(12)[::-1].copy()).kept("n", "k", lambda: 2) == 2
    assert stored.take(np.arange(11)).kept("n", "k", lambda: 3) == 3


# -- listing and clearing --------------------------------------------------------------------------


def test_collections_are_listed_and_cleared(folder: Folder) -> None:
    assert cached_collections(str(folder.cache_dir)) == []
    source = folder()
    first = folder.kept
    folder(image_size=[4, 6])
    os.utime(first, (1, 1))
    one, two = cached_collections(str(folder.cache_dir))
    assert (one.root, one.size, one.images) == (str(folder.root), (4, 6), 12)
    assert (two.folder, two.root, two.size, two.images, two.used) == (first, str(folder.root), (SIDE, SIDE), 12, 1.0)
    assert two.bytes == sum(path.stat().st_size for path in first.iterdir())
    folder()
    assert cached_collections(str(folder.cache_dir))[0].folder == first  # used again
    (first / "index.json").write_text("?")
    assert (cached_collections(str(folder.cache_dir))[0].root, two.bytes > 0) == (None, True)
    with locked(first, wait=False), pytest.raises(ConfigError, match="a process decodes into it"):
        clear(first)
    clear(first)
    assert [cached.folder for cached in cached_collections(str(folder.cache_dir))] == [one.folder]
    assert torch.equal(source.images[:], folder.expected(source))  # of a file without a name


def test_a_root_that_looks_like_markup_is_shown_as_it_is(
    folder: Folder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    (folder.root.parent / "im\nages[").mkdir()
    folder.root = folder.root.rename(folder.root.parent / "im\nages[" / "bold]")
    monkeypatch.setattr(grow, "get_console", lambda: Console(force_terminal=True))
    assert folder.check() == all_of(folder)
    assert "/im\\nages[/bold] into" in caplog.text
