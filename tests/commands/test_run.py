"""Whole runs from the command line: what they leave behind, and what must not change them."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support.processes import Cli

from siamese.data.tuples import article_split
from siamese.evaluation.verification import verification

pytestmark = pytest.mark.slow

QUICK = (
    "data=digits",
    "model=conv_small",
    "model.width=4",
    "device=cpu",
    "data.images_per_class=30",
    "data.batch_size=16",
)


def metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def run(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("run") / "one"
    done = train_cli(*QUICK, "loss=triplet_koleo", "trainer.max_epochs=2", "seed=0", f"hydra.run.dir={where}")
    (where.parent / "terminal.txt").write_text(done.stdout)
    return where


def test_the_run_directory_is_whole(run: Path) -> None:
    expected = """.hydra/config.yaml .hydra/overrides.yaml .hydra/hydra.yaml config.resolved.yaml manifest.json
        status.json metrics.csv summary.json train.log arrays/validation.npz arrays/test.npz arrays/roc_test.npz
        checkpoints/best.ckpt checkpoints/last.ckpt figures/loss_curves.png figures/roc.png figures/samples.png
        figures/triplets.png""".split()
    assert [name for name in expected if not (run / name).is_file()] == []
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["schema_version"] == 1
    assert manifest["seed"] == 0
    assert manifest["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert manifest["split"]["test"] == 355
    assert "loss=triplet_koleo" in manifest["argv"]
    assert yaml.safe_load((run / "config.resolved.yaml").read_text())["loss"]["koleo_weight"] == 0.1


def test_metrics_have_one_row_an_epoch_from_zero(run: Path) -> None:
    rows = metrics(run)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert rows[0]["train/loss"] == ""
    steps = -(-json.loads((run / "manifest.json").read_text())["split"]["train_triplets"] // 16)
    assert [int(row["step"]) for row in rows] == [0, steps, 2 * steps]
    for row in rows[1:]:
        total = float(row["train/triplet"]) + 0.1 * float(row["train/koleo"])
        assert float(row["train/loss"]) == pytest.approx(total, abs=1e-6)
        assert float(row["val/loss"]) == pytest.approx(
            float(row["val/triplet"]) + 0.1 * float(row["val/koleo"]), abs=1e-6
        )


def test_the_summary_is_the_best_checkpoint_measured_again(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    own = {"value", "split", "epoch", "direction", "batch_dependent"}
    assert set(summary["test/nmi"]) == own
    assert set(summary["test/auc"]) == own | {"interval", "interval_over"}
    rows = metrics(run)
    best = max(rows[1:], key=lambda row: float(row["val/auc"]))
    assert summary["val/auc"]["epoch"] == int(best["epoch"])
    for name in ("val/auc", "val/loss", "val/koleo", "val/cos_negative"):
        assert summary[name]["value"] == pytest.approx(float(best[name]), abs=1e-6)
    assert summary["train/koleo"]["batch_dependent"] is True
    assert summary["train/triplet"]["batch_dependent"] is False
    assert summary["val/koleo"]["batch_dependent"] is False
    assert summary["val/auc"]["direction"] == "max"


def test_arrays_hold_what_the_summary_was_computed_from(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    with np.load(run / "arrays" / "test.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].dtype == np.float32
        assert len(arrays["embeddings"]) == len(arrays["labels"]) == len(arrays["ids"]) == 355
        measured = verification(torch.from_numpy(arrays["embeddings"]), torch.from_numpy(arrays["triplets"]))
        assert np.array_equal(arrays["labels"][arrays["triplets"][:, 0]], arrays["labels"][arrays["triplets"][:, 1]])
    assert measured["auc"] == pytest.approx(summary["test/auc"]["value"], abs=1e-9)


def test_checkpoints_hold_primitives_and_tensors(run: Path) -> None:
    for name in ("best", "last"):
        checkpoint = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert "net.projection.weight" in checkpoint["state_dict"]


def test_figures_are_pictures(run: Path) -> None:
    for name in ("loss_curves", "roc", "samples", "triplets"):
        with Image.open(run / "figures" / f"{name}.png") as image:
            assert min(image.size) > 300


def test_the_terminal_says_what_is_optimised_and_where_results_are(run: Path) -> None:
    text = (run.parent / "terminal.txt").read_text()
    assert "micro-batch 16 triplets × window 1 × 1 device = 16 triplets a step; KoLeo sees 48 embeddings" in text
    assert "epoch 2/2" in text
    assert "of 2, by val/auc, after" in text
    assert "recall_at_1" in text
    assert "pictures are in" in text
    assert "--table  # every measure" in text
    assert str(run) in text
    log = (run / "train.log").read_text()
    assert all(line.strip() in log for line in text.splitlines() if line.strip())


def test_the_same_command_gives_the_same_numbers_and_another_seed_others(
    run: Path, train_cli: Cli, tmp_path: Path
) -> None:
    words = (*QUICK, "loss=triplet_koleo", "trainer.max_epochs=2", "figures.draw=false")
    undrawn = train_cli(*words, "seed=0", f"hydra.run.dir={tmp_path / 'again'}").stdout
    assert "pictures are in" not in undrawn
    assert "again --figures-only  # pictures" in undrawn
    assert metrics(run) == metrics(tmp_path / "again")
    train_cli(*words, "seed=1", f"hydra.run.dir={tmp_path / 'other'}")
    assert metrics(run) != metrics(tmp_path / "other")


def test_cutting_the_batch_changes_nothing_for_a_loss_of_triplets(train_cli: Cli, tmp_path: Path) -> None:
    """Without BatchNorm, 4 × 6 accumulated triplets are 24 triplets at once, in a whole run too."""
    words = (
        "data=digits",
        "model=sequential",
        "model.layers=[{Conv2d:{out_channels:8,kernel_size:3,stride:2}},ReLU,{Conv2d:{out_channels:16,kernel_size:3}}]",
        "device=cpu",
        "device.precision=64-true",
        "data.images_per_class=8",
        "data.triplets=fixed",
        "trainer.max_epochs=1",
        "optimizer=sgd",
        "optimizer.lr=0.01",
        "figures.draw=false",
    )
    train_cli(*words, "data.batch_size=24", f"hydra.run.dir={tmp_path / 'a'}")
    train_cli(*words, "data.batch_size=6", "trainer.accumulate_grad_batches=4", f"hydra.run.dir={tmp_path / 'b'}")
    a, b = (torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for name in "ab")
    assert all(torch.allclose(a[k], b[k], rtol=1e-9, atol=1e-12) for k in a)
    one, other = (json.loads((tmp_path / n / "manifest.json").read_text())["split"] for n in "ab")
    assert one == other


def test_a_collapsed_embedding_is_noticed(train_cli: Cli, tmp_path: Path) -> None:
    words = (*QUICK, "trainer.max_epochs=2", "optimizer.lr=1e-6", "figures.draw=false")
    # An untrained network's cosines are near 0.99.
    done = train_cli(*words, "callbacks.collapse_cosine=0.9", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.stdout.count("the embedding has collapsed at epoch 1") == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["val/collapsed"]["epoch"] == 1


def test_a_folder_of_images_from_the_command_line(train_cli: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, level in (("dark", 60), ("bright", 190), ("middle", 120)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            pixels = random.normal(level, 20, (24, 36, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.jpg")
    before = sorted(p.name for p in (tmp_path / "images").rglob("*"))
    train_cli(
        "data=image_folder",
        f"data.root={tmp_path / 'images'}",
        f"data.cache_dir={tmp_path / 'cache'}",
        "data.val_fraction=0.2",
        "data.test_fraction=0.2",
        "data.batch_size=4",
        "model=conv_small",
        "model.width=4",
        "loss=triplet_koleo",
        "trainer.accumulate_grad_batches=8",
        "trainer.max_epochs=1",
        "figures.draw=false",
        "device=cpu_bf16",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert sorted(p.name for p in (tmp_path / "images").rglob("*")) == before
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["classes"] == ["bright", "dark", "middle"]
    assert manifest["device"]["precision"] == "bf16-mixed"


CIFAR = os.environ.get("SIAMESE_CIFAR10")


@pytest.fixture(scope="module")
def photographs(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on CIFAR-10 with the article's split."""
    if CIFAR is None:
        pytest.skip("SIAMESE_CIFAR10 names no folder of CIFAR-10 images")
    folder = tmp_path_factory.mktemp("photographs")
    words = ("data=image_folder", f"data.root={CIFAR}", f"data.cache_dir={folder / 'cache'}", "data.decode_workers=2")
    train_cli(
        *words,
        "model=conv_small",
        "model.width=8",
        "data.split=article",
        "seed=42",
        "trainer.max_epochs=1",
        "trainer.limit_train_batches=60",
        "optimizer.lr=2e-3",
        "device=cpu",
        "figures.draw=false",
        "evaluation.resamples=0",
        f"hydra.run.dir={folder / 'run'}",
    )
    return folder / "run"


def test_real_photographs_train_and_the_article_split_has_its_printed_counts(photographs: Path) -> None:
    with np.load(photographs / "arrays" / "validation.npz") as arrays:
        names = arrays["class_names"][arrays["labels"][arrays["triplets"][:, 0]]]
        counts = [int((names == name).sum()) for name in arrays["class_names"]]
        labels, ids = arrays["labels"], arrays["ids"]
    assert counts == [124, 113, 125, 119, 127, 138, 119, 123, 130, 132]
    assert all(str(i).startswith("train/") for i in ids)
    folder_labels = np.repeat(np.arange(10), 5000)
    _, expected = article_split(folder_labels, 2500, 42)
    assert len(labels) == len(np.unique(expected))
    rows = metrics(photographs)
    assert float(rows[1]["val/auc"]) > float(rows[0]["val/auc"])


def test_searches_among_real_photographs_find_what_brute_force_finds_in_the_arrays(
    photographs: Path, cli: Cli, tmp_path: Path
) -> None:
    root, index = Path(str(CIFAR)), tmp_path / "test.index"
    with np.load(photographs / "arrays" / "test.npz") as arrays:
        ids, embeddings = arrays["ids"], arrays["embeddings"].astype(np.float64)
    cli("scripts/index.py", photographs, root / "test", "--out", index)
    for query in np.random.default_rng(0).choice(len(ids), 10, replace=False):
        found = json.loads(cli("scripts/search.py", index, root / str(ids[query]), "-k", "10", "--json").stdout)
        distances = np.linalg.norm(embeddings - embeddings[query], axis=1)
        apart = dict(zip((str(root / str(i)) for i in ids), distances, strict=True))
        got = [(path, n["distance"]) for n in found["neighbours"] for path in (n["path"], *n["copies"])]
        assert len(found["neighbours"]) == 10
        assert [d for _, d in got] == pytest.approx(np.sort(distances)[: len(got)], abs=1e-3)
        assert all(abs(apart[path] - d) < 1e-3 for path, d in got)  # those of one distance in either order

    cli("scripts/export.py", photographs, "--format", "onnx", "--out", tmp_path / "net.onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "net.onnx")
    some = np.random.default_rng(1).choice(len(ids), 64, replace=False)
    pixels = np.stack([np.asarray(Image.open(root / str(ids[i]))).transpose(2, 0, 1) for i in some])
    (answer,) = session.run(None, {session.get_inputs()[0].name: pixels})
    np.testing.assert_allclose(answer, embeddings[some], atol=1e-5)


def test_a_run_changes_no_file_of_another(run: Path, train_cli: Cli, tmp_path: Path) -> None:
    before = {p: hashlib.md5(p.read_bytes()).hexdigest() for p in sorted(run.rglob("*")) if p.is_file()}
    done = train_cli(*QUICK, f"hydra.run.dir={run}", check=False)
    assert done.returncode == 2
    assert before == {p: hashlib.md5(p.read_bytes()).hexdigest() for p in sorted(run.rglob("*")) if p.is_file()}
