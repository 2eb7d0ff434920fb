"""scripts/evaluate.py --embeddings: anybody's embeddings, from a file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.processes import Cli

import siamese
from siamese.evaluation import Undefined

SCRIPT = "scripts/evaluate.py"
RANDOM = np.random.default_rng(0)
LABELS = np.repeat(["boat", "$50%_$100", "cat"], 20)
Z = (np.repeat(RANDOM.normal(size=(3, 6)), 20, axis=0) + RANDOM.normal(size=(60, 6))).astype(np.float32)


def test_a_file_measures_as_arrays_do(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", embeddings=Z, labels=LABELS, ids=np.array([f"image {i}" for i in range(60)]))
    done = cli(SCRIPT, "--embeddings", tmp_path / "z.npz", "--out", tmp_path / "out")
    expected = siamese.measure(Z, LABELS)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    for name, value in expected.items():
        assert summary[f"test/{name}"]["value"] == (None if isinstance(value, Undefined) else value), name
    assert f"{expected['map_at_r']:.4f}" in done.stdout
    with open(tmp_path / "out" / "per_class.csv", newline="") as file:
        assert {row["class"] for row in csv.DictReader(file)} == set(LABELS)
    with open(tmp_path / "out" / "failures.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["id"].startswith("image ")
    assert len(rows) == round((1 - float(str(expected["recall_at_1"]))) * 60)
    assert (tmp_path / "out" / "figures" / "projection_test.png").exists()
    again = cli(SCRIPT, "--embeddings", tmp_path / "z.npz", "--out", tmp_path / "out", check=False)
    assert again.returncode == 2
    assert "is not empty; choose another directory" in again.stderr


def test_queries_look_in_a_gallery(cli: Cli, tmp_path: Path) -> None:
    labels = np.arange(60) % 5 - 1  # some of no class
    queries = np.arange(60) % 3 == 0
    np.savez(tmp_path / "z.npz", embeddings=Z, labels=labels, queries=queries, gallery=~queries)
    done = cli(SCRIPT, "--embeddings", tmp_path / "z.npz")
    expected = siamese.measure(Z, labels, queries=queries, gallery=~queries)
    assert f"{expected['mean_average_precision']:.4f}" in done.stdout
    assert "20 queries, 4 queries without match, 40 gallery, 8 distractors" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arrays", "words", "says"),
    [
        ({"embedings": Z, "labels": LABELS}, [], "has no array embeddings; did you mean 'embedings'?"),
        ({"embeddings": Z}, [], "has no array labels"),
        ({"embeddings": Z, "labels": LABELS[:5]}, [], "found 5 labels for 60 embeddings"),
        ({"embeddings": Z, "labels": LABELS, "querys": LABELS}, [], "unknown array querys; did you mean 'queries'?"),
        ({"embeddings": Z * np.nan, "labels": LABELS}, [], "60 of 60 embeddings are NaN or infinite"),
        ({"embeddings": Z, "labels": LABELS, "queries": np.array([99])}, [], "expected positions from 0 to 59"),
        ({"embeddings": Z, "labels": np.full(60, 4), "class_names": np.array(["a"])}, [], "among the 1 class_names"),
        ({"embeddings": Z, "labels": LABELS}, ["--data", "digits"], "takes no --data"),
        ({"embeddings": Z, "labels": LABELS}, ["outputs/RUN"], "expected a run directory, or --embeddings FILE"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    cli: Cli, tmp_path: Path, arrays: dict[str, np.ndarray], words: list[str], says: str
) -> None:
    np.savez(tmp_path / "z.npz", **arrays)
    done = cli(SCRIPT, "--embeddings", tmp_path / "z.npz", *words, check=False)
    assert done.returncode == (2 if words else 1)
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    none = cli(SCRIPT, check=False)
    assert none.returncode == 2
    assert "expected a run directory, or --embeddings FILE" in none.stderr


def test_pickles_are_not_read(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "z.npz", embeddings=Z, labels=np.array([{"a": 1}] * 60, dtype=object))
    done = cli(SCRIPT, "--embeddings", tmp_path / "z.npz", check=False)
    assert done.returncode == 1
    assert "could not be read as arrays" in done.stderr
