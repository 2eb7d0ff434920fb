"""siamese.measure: embeddings that come from anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import write_folder
from support.processes import Cli

import siamese
from siamese.errors import ConfigError
from siamese.evaluation import METRICS, Undefined

POINTS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
NAMES = ["ape", "bee", "cat", "dog"] * 10


def numbers(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, Undefined)}


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, siamese; siamese.measure; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "labels", [NAMES, np.arange(40) % 4, torch.arange(40) % 4, np.array(NAMES), [2.5, 3, 7, 9] * 10]
)
@pytest.mark.parametrize("embeddings", [POINTS, POINTS.tolist(), torch.from_numpy(POINTS).requires_grad_()])
def test_whatever_holds_them_the_numbers_are_the_same(embeddings: Any, labels: Any) -> None:
    found = siamese.measure(embeddings, labels)
    assert set(found) >= set(METRICS)
    unit = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
    cosines = unit @ unit.T - 2 * np.eye(40)
    hits = (np.arange(40) % 4)[cosines.argmax(1)] == np.arange(40) % 4
    assert found["recall_at_1"] == hits.mean()
    assert numbers(found) == numbers(siamese.measure(POINTS.tolist(), NAMES))


@pytest.mark.parametrize("none", [None, float("nan"), -1])
def test_images_without_a_class_look_for_nothing_and_are_in_the_way(none: Any) -> None:
    points = [[1, 0], [1, 0.5], [1, 0.1], [0, 1], [0.1, 1]]
    found = siamese.measure(points, [0, 0, none, 1, 1])
    assert found["recall_at_1"] == 0.5  # the one of no class is between the two of class 0


def test_queries_look_among_the_gallery_by_mask_or_position() -> None:
    mask = np.arange(40) < 12
    found = siamese.measure(POINTS, NAMES, queries=mask, gallery=~mask)
    assert isinstance(found["mean_average_precision"], float)
    assert found == siamese.measure(POINTS, NAMES, queries=range(12), gallery=torch.arange(12, 40))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"labels": NAMES[:39]}, "expected one label an embedding, found 39 labels for 40"),
        ({"labels": [[0]] * 40}, "labels: expected one an embedding, found a list at 0"),
        ({"labels": np.zeros((40, 1))}, r"labels: expected one an embedding, \[N\], found shape \[40, 1\]"),
        ({"embeddings": POINTS[0]}, r"expected embeddings \[N, D\], found shape \[6\]"),
        ({"embeddings": [[1, 2], [3]]}, "found rows of different lengths"),
        ({"embeddings": [["a"]] * 40}, "expected numbers"),
        ({"embeddings": np.where(np.eye(40, 6), np.nan, POINTS)}, "6 of 40 embeddings are NaN"),
        ({"queries": [40]}, "queries: expected positions from 0 to 39, found 40"),
        ({"gallery": [1, 1]}, "gallery: expected each position once, found 1 again"),
        ({"gallery": np.zeros(40, bool)}, "gallery: expected one image or more, found none"),
        ({"queries": np.ones(39, bool)}, "queries: expected a mask of 40 images or positions, found bool"),
    ],
)
def test_what_cannot_be_measured_is_one_line(words: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        siamese.measure(**{"embeddings": POINTS, "labels": NAMES, **words})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_numbers_are_those_of_the_command(train_cli: Cli, cli: Cli, tmp_path: Path) -> None:
    run, root, out = tmp_path / "run", tmp_path / "images", tmp_path / "out"
    words = ("data=digits", "data.images_per_class=10", "model=conv_small", "model.width=2", "device=cpu", "seed=0")
    train_cli(*words, "trainer.max_epochs=1", "figures.draw=false", f"hydra.run.dir={run}")
    write_folder(root, {"ape": 6, "bee": 5, "cat": 7})
    more = ("--data", "image_folder", "--root", root, "--out", out)
    cli("scripts/evaluate.py", run, *more, XDG_CACHE_HOME=str(tmp_path))
    with np.load(out / "arrays" / "test.npz", allow_pickle=False) as stored:
        found = siamese.measure(stored["embeddings"], stored["class_names"][stored["labels"]])
    entries = json.loads((out / "summary.json").read_text())
    expected = {name.removeprefix("test/"): entry["value"] for name, entry in entries.items()}
    assert numbers(found) == pytest.approx({k: v for k, v in expected.items() if v is not None}, abs=1e-12)
