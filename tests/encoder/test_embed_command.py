"""scripts/embed.py as a user types it: two images, a folder to every kind of file, and what is refused in one line."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.processes import ROOT, Cli

import siamese
from siamese.commands.collected import Collected, Embeddings
from siamese.commands.embedding_files import check_out, write
from siamese.decoding.decode import decode
from siamese.decoding.names import visible
from siamese.encoder import Encoder
from siamese.errors import ConfigError

SCRIPT = "scripts/embed.py"


@pytest.fixture(scope="module")
def encoder(trained: Path) -> Encoder:
    return siamese.load_run(trained)


@pytest.fixture
def folder(photos: Path, tmp_path: Path) -> Path:
    """Eight images of two classes, one in no class folder, and what is no image."""
    root = tmp_path / "mine"
    for name in ("red", "blue"):
        (root / name).mkdir(parents=True)
        for i in range(4):
            shutil.copy(next((photos / name).glob(f"{i:02}.*")), root / name)
    shutil.copy(photos / "green" / "01.png", root / "loose.png")
    (root / "red" / "notes.txt").write_text("no image")
    return root


def test_two_images_are_compared(cli: Cli, trained: Path, photos: Path, encoder: Encoder) -> None:
    found = json.loads((trained / "summary.json").read_text())
    one, near, away = photos / "red" / "00.jpg", photos / "red" / "01.png", photos / "blue" / "01.png"
    for other, far in ((near, None), (away, None), (away, "1e-1")):
        rate = "eer" if far is None else f"far_{far}"
        threshold = found[f"val/threshold_at_{rate}"]["value"]
        done = cli(SCRIPT, trained, one, other, *(["--far", far] if far else []))
        distance = encoder.distance(one, other)
        verdict = "the same" if distance <= threshold else "not the same"
        first, second = done.stdout.splitlines()
        assert first.startswith(f"distance {distance:.4f}: {verdict} (at ")
        assert f"up to {threshold:.4f})" in first
        rates = [100 * found[f"test/{kind}_at_threshold_{rate}"]["value"] for kind in ("far", "tar")]
        assert "{:.2f} % of pairs of two classes, {:.2f} % of pairs of one".format(*rates) in second
    last = cli(SCRIPT, trained, one, near, "--checkpoint", "last", check=False)
    assert last.returncode == 1
    assert last.stdout == f"distance {siamese.load_run(trained, checkpoint='last').distance(one, near):.4f}\n"
    assert last.stderr.endswith("there is no threshold of last.ckpt; the run has one of best.ckpt\n")


def test_a_folder_becomes_arrays_that_can_be_measured(
    cli: Cli, trained: Path, folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    out = tmp_path / "new" / "z.npz"
    done = cli(SCRIPT, trained, folder, "--out", out)
    assert "skipped 1 file that is no image (.txt 1)" in done.stdout
    assert done.stdout.endswith(f"{out}: 9 embeddings of 16 dimensions, 2 classes\n")
    with np.load(out, allow_pickle=False) as stored:
        ids = stored["ids"].tolist()
        assert ids == [
            *(f"{c}/{i:02}.{'png' if i % 3 else 'jpg'}" for c in ("blue", "red") for i in range(4)),
            "loose.png",
        ]
        assert stored["class_names"].tolist() == ["blue", "red"]
        assert stored["labels"].tolist() == [0] * 4 + [1] * 4 + [-1]
        assert np.array_equal(stored["embeddings"], encoder.embed([folder / one for one in ids]))
    assert "recall_at_1" in cli("scripts/evaluate.py", "--embeddings", out).stdout
    flipped = tmp_path / "flipped.npz"
    cli(SCRIPT, trained, folder / "loose.png", folder / "red" / "00.jpg", "--flip", "--out", flipped)
    with np.load(flipped) as stored:
        assert stored["ids"].tolist() == [str(folder / "loose.png"), str(folder / "red" / "00.jpg")]
        expected = encoder.embed([folder / "loose.png", folder / "red" / "00.jpg"], flip=True)
        assert np.array_equal(stored["embeddings"], expected)


def test_a_folder_becomes_a_table_of_text(
    cli: Cli, trained: Path, folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder / "red", root / "train" / "a, b")
    shutil.copytree(folder / "blue", root / "test" / "a, b")
    cli(SCRIPT, trained, root, "--out", tmp_path / "z.csv")
    with open(tmp_path / "z.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 4 + ["test"] * 4
    assert {row["label"] for row in rows} == {"a, b"}
    z = np.array([[float(row[f"z{i}"]) for i in range(16)] for row in rows], dtype=np.float32)
    assert np.array_equal(z, encoder.embed([row["path"] for row in rows]))
    assert [str(root / row["id"]) for row in rows] == [row["path"] for row in rows]


def test_a_name_that_is_no_text_is_written_in_one_way(tmp_path: Path) -> None:
    paths = [Path("red") / os.fsdecode(name) for name in (b"bad\xff.png", b"caf\xc3\xa9.png", b"a, b.png")]
    given = Collected(paths, np.array(visible([*map(str, paths)])), np.full(3, -1), [], np.full(3, ""))
    write(tmp_path / "z.csv", Embeddings(np.ones((3, 2), np.float32), given, None))
    with open(tmp_path / "z.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == ["red/bad\\xff.png", "red/café.png", "red/a, b.png"]
    assert [row["id"] for row in rows] == [row["path"] for row in rows]


def test_a_place_that_cannot_be_written_to_is_refused_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def access(path: Path, mode: int) -> bool:
        assert (path, mode) == (tmp_path, os.W_OK)
        return False

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(ConfigError, match=f"^--out .*z.csv: {tmp_path} cannot be written to$"):
        check_out(tmp_path / "new" / "z.csv")


def test_a_folder_becomes_a_table_that_can_be_looked_at(
    cli: Cli, trained: Path, folder: Path, tmp_path: Path, encoder: Encoder
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    cli(SCRIPT, trained, folder, "--out", tmp_path / "z.parquet")
    rows = parquet.read_table(tmp_path / "z.parquet").to_pylist()
    assert list(rows[0]) == ["id", "path", "thumbnail", "x", "y", "label", "split", "neighbors", "embedding"]
    z = encoder.embed([row["path"] for row in rows])
    assert np.array_equal(np.array([row["embedding"] for row in rows], dtype=np.float32), z)
    assert [row["label"] for row in rows] == ["blue"] * 4 + ["red"] * 4 + [None]
    for row in rows:
        pixels = decode(Path(row["path"]), encoder.decoding).pixels
        thumbnail = Image.open(io.BytesIO(row["thumbnail"]))
        assert thumbnail.format == "PNG"
        assert np.array_equal(np.asarray(thumbnail).transpose(2, 0, 1), pixels)
    apart = np.linalg.norm(z[:, None].astype(float) - z, axis=2)
    np.fill_diagonal(apart, np.inf)
    for i, row in enumerate(rows):
        order = np.argsort(apart[i])[:8]
        assert row["neighbors"]["ids"] == order.tolist()
        assert np.allclose(row["neighbors"]["distances"], apart[i][order], atol=1e-6)
    centred = z.astype(float) - z.mean(axis=0, dtype=float)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    plane = np.array([[row["x"], row["y"]] for row in rows])
    assert np.allclose(np.abs(plane), np.abs(centred @ directions[:2].T), atol=1e-6)
    assert values[0] > values[1]


def test_damaged_files_stop_it_or_are_left_out(cli: Cli, trained: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "blue" / "torn.png").write_bytes(b"no image")
    out = tmp_path / "z.npz"
    refused = cli(SCRIPT, trained, folder, "--out", out, check=False)
    assert refused.returncode == 1
    assert refused.stderr.endswith("torn.png: not an image that can be read; --damaged skip leaves them out\n")
    assert not out.exists()
    done = cli(SCRIPT, trained, folder, "--out", out, "--damaged", "skip")
    assert "left out: " in done.stdout
    with np.load(out) as stored:
        assert len(stored["ids"]) == 9
        assert "blue/torn.png" not in stored["ids"]


@pytest.mark.parametrize(
    ("words", "says", "status"),
    [
        ("RUN", "the following arguments are required: IMAGE", 2),
        ("loose.png loose.png", "loose.png: expected a run directory, found a file", 2),
        ("RUN FOLDER", "expected two image files to compare, or --out FILE to write embeddings to; found a folder", 2),
        ("RUN loose.png", "found 1 image", 2),
        ("RUN loose.png lose.png", "lose.png: no such file; did you mean 'loose.png'?", 2),
        ("RUN loose.png notes.txt", "notes.txt: not an image that can be read", 1),
        ("RUN loose.png loose.png --far 0.5", "far=0.5: expected one of 1e-1, 1e-2, 1e-3", 2),
        ("RUN loose.png loose.png --far 1e-3", "val/threshold_at_far_1e-3 is undefined: it needs 1000 pairs", 1),
        ("RUN loose.png loose.png --flip", "--flip: expected beside --out FILE", 2),
        ("RUN FOLDER --out z.npz --far 1e-1", "--far 1e-1: compares two images, and --out compares none", 2),
        ("RUN FOLDER loose.png --out z.npz", "expected one folder, or image files; found a folder among 2 names", 2),
        ("RUN FOLDER --out z.parque", "z.parque: expected a name that ends in .npz, .csv, .parquet; did you mean", 2),
        ("RUN FOLDER --out there.npz", "there.npz: already exists; choose another name", 2),
        ("RUN FOLDER --out loose.png/new/z.npz", "loose.png is no folder", 2),
        ("RUN empty --out z.npz", "empty: holds no image", 2),
        ("RUN texts --out z.npz", "texts: holds no image; beside it, 1 file that is no image (.txt 1)", 2),
        ("RUN parts --out z.npz", "found only train; use ", 2),
        ("RUN loose.png parts/train/red/a.png --out z.parquet", "a plane needs 3 embeddings", 1),
        ("RUN loose.png loose.png --out z.npz", "loose.png: named more than once; expected each image once", 2),
        ("RUNS FOLDER --out z.npz", "expected one of them, or the measure that says which is the best", 2),
        ("RUN FOLDER --out z.npz --device gpu", "device=gpu: expected one of auto, cpu, cuda, mps", 2),
        ("RUN FOLDER --out z.npz --checkpoit last", "--checkpoit last; did you mean '--checkpoint'?", 2),
    ],
)
def test_what_is_wrong_is_one_line(
    cli: Cli, trained: Path, folder: Path, tmp_path: Path, words: str, says: str, status: int
) -> None:
    for name in ("empty", "texts", "parts/train/red", "runs"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("texts/a.txt", "notes.txt", "there.npz"):
        (tmp_path / name).write_text("no image")
    for name in ("loose.png", "parts/train/red/a.png"):
        shutil.copy(folder / "loose.png", tmp_path / name)
    if "RUNS" in words:
        for name in "ab":
            shutil.copytree(trained, tmp_path / "runs" / name, ignore=shutil.ignore_patterns("arrays"))
    named = {"RUN": str(trained), "RUNS": str(tmp_path / "runs"), "FOLDER": str(folder)}
    flags = ("--", "1e-", "0.5", "gpu", "last")
    typed = [named.get(word, word if word.startswith(flags) else str(tmp_path / word)) for word in words.split()]
    done = cli(SCRIPT, *typed, check=False)
    assert done.returncode == status
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not (tmp_path / "z.npz").exists()
    assert not (tmp_path / "z.parquet").exists()


def test_what_is_not_installed_is_said_with_its_extra(trained: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError('No module named pyarrow')")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, SCRIPT, str(trained), str(folder), "--out", str(tmp_path / "z.parquet")]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("z.parquet: pyarrow is not installed; pip install -e '.[parquet]' installs it\n")


def test_a_model_of_ones_own_is_named_with_the_command_that_trusts_it(
    cli: Cli, run: Path, folder: Path, tmp_path: Path
) -> None:
    config = (run / "config.resolved.yaml").read_text()
    (run / "config.resolved.yaml").write_text(config.replace("siamese.models.conv_small", "ownmodel.net"))
    images = [folder / "loose.png", folder / "red" / "00.jpg"]
    refused = cli(SCRIPT, run, *images, check=False)
    assert refused.stderr.strip().endswith(f"to trust it: python scripts/embed.py {run} --trust ownmodel")
    missing = cli(SCRIPT, run, *images, "--trust", "ownmodel", check=False)
    assert "model._target_=ownmodel.net: cannot be imported (No module named 'ownmodel')" in missing.stderr
    (tmp_path / "ownmodel.py").write_text("from siamese.models import conv_small as net\n")
    assert "distance" in cli(SCRIPT, run, *images, "--trust", "ownmodel", cwd=tmp_path).stdout
