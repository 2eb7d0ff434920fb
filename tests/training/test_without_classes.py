"""A folder of images without classes: trained in views, and measured by finding an image's other view."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import write_folder
from support.processes import Cli

from siamese.evaluation.names import METRICS
from siamese.evaluation.views import view_retrieval
from siamese.runs.read import read_metrics, read_summary

pytestmark = pytest.mark.slow
WORDS = (
    *("batches=views", "loss=ntxent", "augment=resized_crop", "model=conv_small", "model.width=4", "device=cpu"),
    *("data=image_folder", "data.image_size=16", "data.batch_size=16", "trainer.max_epochs=2", "optimizer.lr=3e-3"),
)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 99), st.booleans())
def test_an_image_is_found_as_by_looking_at_every_one(n: int, d: int, seed: int, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    z, v = random.normal(size=(2, n, d)) + 0.01
    if coarse:  # many ties
        z, v = np.sign(z), np.sign(v)
    ranks = []
    for i in range(n):
        near = [np.dot(v[i], x) / np.linalg.norm(v[i]) / np.linalg.norm(x) for x in z]
        ranks.append(sum(one >= near[i] - 1e-9 for one in near))
    found = view_retrieval(torch.from_numpy(z), torch.from_numpy(v))
    for k in (1, 5):
        assert found[f"view_recall_at_{k}"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
    assert found["view_mrr"] == pytest.approx(np.mean([1 / rank for rank in ranks]))


def test_one_place_for_all_images_finds_none() -> None:
    z = torch.ones(9, 3)
    assert view_retrieval(z, z) == {"view_recall_at_1": 0.0, "view_recall_at_5": 0.0, "view_mrr": pytest.approx(1 / 9)}


@pytest.fixture(scope="module")
def run(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    photos = write_folder(folder / "all", {"x": 60}, size=(16, 16)) / "x"
    train_cli(*WORDS, f"data.root={photos}", f"data.cache_dir={folder}/cache", f"hydra.run.dir={folder}/run")
    return folder / "run"


def test_a_run_is_measured_by_views(run: Path) -> None:
    rows = read_metrics(run / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(0 <= float(row["val/view_recall_at_1"]) <= 1 for row in rows)
    assert "val/auc" not in rows[0]
    summary = read_summary(run)
    best = max(float(row["val/view_recall_at_1"]) for row in rows[1:])
    assert summary["val/view_recall_at_1"]["value"] == best
    assert summary["test/view_mrr"]["direction"] == "max"
    known = {"cos_mean", "uniformity", "effective_rank", "participation_ratio", "entropy"}
    for name in METRICS:
        entry = summary[f"test/{name}"]
        if name in known or name.startswith("nn_distance"):
            assert entry["value"] is not None, name
        else:
            assert entry["value"] is None, name
            assert entry["reason"] == "the images have no classes"
    assert {path.stem for path in (run / "figures").iterdir()} == {"loss_curves", "metric_curves", "spectrum"}
    said = (run / "train.log").read_text()
    assert "by val/view_recall_at_1" in said


def test_a_run_that_was_stopped_ends_the_same(run: Path, train_cli: Cli, tmp_path: Path) -> None:
    own = json.loads((run / "manifest.json").read_text())["argv"]
    words = [word for word in own if "=" in word and not word.startswith(("hydra.run.dir", "trainer.max_epochs"))]
    again = tmp_path / "again"
    train_cli(*words, "trainer.max_epochs=1", "figures.draw=false", f"hydra.run.dir={again}")
    train_cli(f"resume={again}", "trainer.max_epochs=2")
    for name in ("val/view_recall_at_1", "val/loss", "train/loss"):
        assert [row[name] for row in read_metrics(again / "metrics.csv")] == [
            row[name] for row in read_metrics(run / "metrics.csv")
        ]


def test_it_is_evaluated_again_and_on_images_with_classes(run: Path, cli: Cli) -> None:
    before = read_summary(run)
    cli("scripts/evaluate.py", run)
    assert read_summary(run)["test/view_mrr"] == before["test/view_mrr"]
    cli("scripts/evaluate.py", run, "--data", "digits")
    other = read_summary(run / "evaluations" / "best_digits")
    assert 0 < other["test/recall_at_1"]["value"] <= 1


def test_what_needs_classes_is_refused_in_one_line(run: Path, train_cli: Cli, tmp_path: Path) -> None:
    root = run.parent / "all" / "x"
    refused = train_cli(
        *("data=image_folder", f"data.root={root}", "data.image_size=16", f"data.cache_dir={run.parent}/cache"),
        *("model=conv_small", "loss=triplet", "device=cpu", f"hydra.run.dir={tmp_path}/run"),
        check=False,
    )
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line]
    assert "batches=views" in line
