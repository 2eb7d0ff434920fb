"""MNIST, KMNIST and EMNIST from IDX files; downloads that two processes want at once."""

from __future__ import annotations

import gzip
import hashlib
import logging
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.idx import digits, write_idx
from support.processes import Cli
from torchvision.datasets import CIFAR10, EMNIST, KMNIST, MNIST

from siamese.config.data import Data
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.data.sources.cifar10 import cifar10
from siamese.data.sources.download import LOCK, only_download
from siamese.errors import RunError

Parts = dict[str, tuple[np.ndarray, np.ndarray]]


def write_parts(folder: Path, parts: Parts, compress: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, labels) in parts.items():
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            write_idx(folder / f"{part}-{kind}-ubyte{'.gz' * compress}", values, compress)
    return folder


def read(name: str, root: Path | None, download: bool = False, **arguments: Any) -> LabelledImages:
    source = {"_target_": f"siamese.data.{name}", **arguments}
    return describe(Data(source=source, root=root and str(root), image_size=28, download=download), 0)


@pytest.fixture
def parts() -> Parts:
    return {"train": digits(10, 3), "t10k": digits(10, 2, seed=1)}


def as_official(monkeypatch: pytest.MonkeyPatch, kind: type, folder: Path) -> None:
    """Let the compressed files in ``folder`` be those that ``kind`` knows by their sums."""
    sums = [(file.name, hashlib.md5(file.read_bytes()).hexdigest()) for file in sorted(folder.glob("*.gz"))]
    assert len(sums) == 4
    monkeypatch.setattr(kind, "resources", sums)


# -- the files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("mnist", MNIST), ("kmnist", KMNIST)])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("below", [".", "raw"])
def test_files_are_found_and_become_three_equal_channels(
    name: str, kind: type, compress: bool, below: str, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_parts(tmp_path / (f"{kind.__name__}/raw" if below == "raw" else "."), parts, compress)
    if compress:
        as_official(monkeypatch, kind, folder)
    source = read(name, tmp_path)
    expected = np.concatenate([parts["train"][0], parts["t10k"][0]])
    for channel in range(3):
        assert np.array_equal(source.images[:][:, channel].numpy(), expected)
    assert source.labels.tolist() == [*parts["train"][1], *parts["t10k"][1]]
    assert source.is_test.tolist() == [False] * 30 + [True] * 20
    assert source.ids[0] == "train/00000"
    assert source.ids[-1] == "test/00019"
    assert source.class_names[1] == {"mnist": "1", "kmnist": "ki"}[name]


def test_without_a_root_they_are_looked_for_in_data(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_parts(tmp_path / "data" / "MNIST" / "raw", parts, compress=False)
    assert len(read("mnist", None).labels) == 50


SPLITS = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("below", [".", "gzip", "EMNIST/raw"])
def test_emnist_is_upright_and_its_classes_begin_at_zero(split: str, below: str, tmp_path: Path) -> None:
    first = int(split == "letters")
    upright = {part: digits(SPLITS[split], 2, seed) for seed, part in enumerate(("train", "test"))}
    stored = {
        f"emnist-{split}-{part}": (images.transpose(0, 2, 1), (labels + first).astype(np.uint8))
        for part, (images, labels) in upright.items()
    }
    write_parts(tmp_path / below, stored, compress=below == "gzip")
    source = read("emnist", tmp_path, split=split)
    expected = np.concatenate([images for images, _ in upright.values()])
    assert np.array_equal(source.images[:][:, 0].numpy(), expected)
    assert source.labels.tolist() == [label for _, labels in upright.values() for label in labels.tolist()]
    assert len(source.class_names) == SPLITS[split]
    assert "N/A" not in source.class_names
    assert set(EMNIST.classes_split_dict[split]) - {"N/A"} == set(source.class_names)


def test_a_split_that_is_not_one_is_refused(train_cli: Cli, tmp_path: Path) -> None:
    words = ["data=emnist", "data.source.split=balancd", f"hydra.run.dir={tmp_path / 'run'}"]
    done = train_cli(*words, check=False)
    assert done.returncode == 2
    assert "data.source.split=balancd: expected one of byclass, bymerge, balanced, letters" in done.stderr
    assert "did you mean 'balanced'?" in done.stderr


# -- damage ----------------------------------------------------------------------------------------

IMAGES = "train-images-idx3-ubyte"


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def header(*bytes_: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(bytes(bytes_) + path.read_bytes()[len(bytes_) :])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            shorter,
            f"{IMAGES}: not an IDX file, or damaged (expected bytes 0 0 8 3, 3 sizes and as many values; found 0 0",
        ),
        (lambda path: path.write_bytes(b""), f"{IMAGES}: not an IDX file, or damaged (expected bytes 0 0 8 3"),
        (lambda path: path.write_bytes(path.read_bytes()[:16]), f"{IMAGES}: not an IDX file, or damaged"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "sizes [30, 28, 28] in 23,537 bytes)"),
        (header(0, 0, 13, 3), "found 0 0 13 3 and sizes"),
        (header(0, 0, 8, 1), "found 0 0 8 1 and sizes"),
        (header(0, 0, 8, 3, 255, 255, 255, 255), "sizes [4294967295, 28, 28]"),
        (Path.unlink, f"expected {IMAGES} or {IMAGES}.gz, found neither"),
        (lambda path: write_idx(path, digits(10, 2)[0], False), "train: 30 labels and images of shape (20, 28, 28)"),
        (lambda path: write_idx(path, digits(10, 3)[0][:, :14], False), "t10k: 20 labels and images of shape (20, 28"),
        (
            lambda path: write_idx(path.with_name("t10k-labels-idx1-ubyte"), np.full(20, 11, np.uint8), False),
            "t10k: expected labels from 0 to 9, found 11 to 11",
        ),
        (
            lambda path: [file.unlink() for file in path.parent.iterdir()],
            "; give data.root=PATH, or set data.download=",
        ),
    ],
)
def test_bad_files_are_named_in_one_line(
    spoil: Callable[[Path], object], says: str, parts: Parts, tmp_path: Path
) -> None:
    spoil(write_parts(tmp_path, parts, compress=False) / IMAGES)
    with pytest.raises(RunError) as raised:
        read("mnist", tmp_path)
    assert says in str(raised.value)
    assert str(tmp_path) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_compressed_file_must_be_the_official_one(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_official(monkeypatch, MNIST, write_parts(tmp_path, parts, compress=True))
    content = bytearray(gzip.decompress((tmp_path / f"{IMAGES}.gz").read_bytes()))
    content[100] ^= 1
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(
        RunError, match=r"images-idx3-ubyte.gz: not the official file, or damaged \(MD5 \w{32}, expected"
    ):
        read("mnist", tmp_path)


@pytest.mark.parametrize(("name", "kind"), [("mnist", MNIST), ("kmnist", KMNIST), ("emnist", EMNIST)])
def test_a_download_that_fails_says_what_to_do(
    name: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "mirrors", ["http://127.0.0.1:9/"])
    monkeypatch.setattr(EMNIST, "url", "http://127.0.0.1:9/gzip.zip")
    arguments = {"split": "balanced"} if name == "emnist" else {}
    with pytest.raises(RunError) as raised:
        read(name, tmp_path / "empty", download=True, **arguments)
    for part in (f"empty: {kind.__name__} could not be downloaded there (", "-labels-idx1-ubyte.gz in it"):
        assert part in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["mnist", "kmnist", "emnist"])
def test_they_train_from_the_command_line(name: str, train_cli: Cli, tmp_path: Path) -> None:
    own = ("emnist-letters-train", "emnist-letters-test") if name == "emnist" else ("train", "t10k")
    classes = 26 if name == "emnist" else 10
    made = {part: digits(classes, 6, seed) for seed, part in enumerate(own)}
    first = int(name == "emnist")
    made = {part: (images, (labels + first).astype(np.uint8)) for part, (images, labels) in made.items()}
    write_parts(tmp_path / "files", made, compress=False)
    train_cli(
        *(f"data={name}", f"data.root={tmp_path / 'files'}", "data.download=false", "data.val_fraction=0.35"),
        "data.batch_size=8",
        *["data.source.split=letters"] * (name == "emnist"),
        *("model=conv_small", "model.width=4", "device=cpu", "trainer.max_epochs=1", "figures.draw=false"),
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert (tmp_path / "run" / "summary.json").is_file()


# -- two downloads at once -------------------------------------------------------------------------


def publish_mnist(begun: Event, go_on: Event, count: Any, some_first: bool) -> type:
    """A stand-in for torchvision's MNIST that waits before it writes its files, or else before the last of them."""

    class Slow(MNIST):
        def __init__(self, root: Path, download: bool) -> None:
            with count.get_lock():
                count.value += 1
            parts = {"train": digits(10, 3), "t10k": digits(10, 2, seed=1)}
            raw = Path(root) / "MNIST" / "raw"
            if some_first:
                write_parts(raw, {"train": parts["train"]}, compress=False)
            begun.set()
            assert go_on.wait(60)
            write_parts(raw, parts, compress=False)

    return Slow


def mnist_process(
    folder: Path, begun: Event, go_on: Event, count: Any, some_first: bool, answers: Any, download: bool
) -> None:
    import torchvision.datasets

    torchvision.datasets.MNIST = publish_mnist(begun, go_on, count, some_first)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("siamese").addHandler(handler)
    logging.getLogger("siamese").setLevel(logging.INFO)
    answers.put((len(read("mnist", folder, download=download).labels), said))


@pytest.mark.parametrize(("some_first", "second_downloads"), [(True, True), (True, False), (False, True)])
def test_one_process_downloads_and_the_other_waits(some_first: bool, second_downloads: bool, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begun, go_on, count, answers = context.Event(), context.Event(), context.Value("i", 0), context.Queue()
    shared = (tmp_path, begun, go_on, count, some_first, answers)
    first = context.Process(target=mnist_process, args=(*shared, True))
    second = context.Process(target=mnist_process, args=(*shared, second_downloads))
    first.start()
    assert begun.wait(60)
    second.start()
    time.sleep(0.5)
    assert second.is_alive()
    assert answers.empty()
    go_on.set()
    told = [answers.get(timeout=60) for _ in range(2)]
    for process in (first, second):
        process.join(60)
    assert [images for images, _ in told] == [50, 50]
    assert count.value == 1
    waited = f"waiting for another process that downloads MNIST to {tmp_path}"
    assert sorted(said for _, said in told) == [[], [waited]]


def cifar_process(folder: Path, begun: Event, go_on: Event, count: Any, answers: Any) -> None:
    def init(self: Any, root: Path, train: bool = True, download: bool = False) -> None:
        done = Path(root) / "done"
        if download and not done.exists():
            with count.get_lock():
                count.value += 1
            begun.set()
            assert go_on.wait(60)
            done.touch()
        if not done.exists():
            raise RuntimeError("Dataset not found or corrupted.")
        self.train, self.data, self.targets, self.classes = train, np.zeros((4, 32, 32, 3), np.uint8), [0] * 4, ["a"]

    CIFAR10.__init__ = init
    answers.put(len(cifar10(str(folder), True, 32).labels))


def test_one_process_downloads_cifar10_and_the_other_waits(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    begun, go_on, count, answers = context.Event(), context.Event(), context.Value("i", 0), context.Queue()
    processes = [context.Process(target=cifar_process, args=(tmp_path, begun, go_on, count, answers)) for _ in range(2)]
    for process in processes:
        process.start()
    assert begun.wait(60)
    time.sleep(0.5)
    assert answers.empty()
    go_on.set()
    assert [answers.get(timeout=60) for _ in range(2)] == [8, 8]
    for process in processes:
        process.join(60)
    assert count.value == 1


def test_what_is_there_needs_no_lock(parts: Parts, tmp_path: Path) -> None:
    write_parts(tmp_path, parts, compress=False)
    before = sorted(tmp_path.iterdir())
    assert torch.equal(read("mnist", tmp_path, download=True).labels, read("mnist", tmp_path).labels)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_system_without_locks_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def flock(descriptor: int, kind: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with only_download(tmp_path / "new", "MNIST"):
        assert (tmp_path / "new" / LOCK).exists()
    assert "cannot be locked (Function not implemented)" in caplog.text
