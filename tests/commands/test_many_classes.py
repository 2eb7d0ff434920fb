"""Three thousand classes: trained, measured, drawn and compared."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.processes import ROOT, Cli

CLASSES, IMAGES = 3000, 4
MOST = 3 * 2**30  # bytes

pytestmark = pytest.mark.slow


def run(*words: object) -> tuple[str, int]:
    """What a command of its own process prints, and the most memory that it or what it started took, in bytes."""
    code = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, *sys.argv[1:]], capture_output=True, text=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n"
        "print(done.stdout)\n"
        "sys.exit(done.stderr[-4000:] if done.returncode else 0)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    words = tuple(map(str, words))
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak, _, printed = done.stdout.partition("\n")
    return printed, int(peak)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label in range(CLASSES):
        folder = root / f"class {label:04d}"
        folder.mkdir()
        colours = random.integers(0, 256, (2, 2, 3))
        for image in range(IMAGES):
            noisy = np.clip(colours + random.normal(scale=25, size=(2, 2, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy.repeat(4, 0).repeat(4, 1)).save(folder / f"{image}.png")
    return root


def test_three_thousand_classes_are_trained_measured_drawn_and_compared(
    photos: Path, train_cli: Cli, tmp_path: Path
) -> None:
    runs = [tmp_path / loss for loss in ("supcon", "multi_similarity")]
    words = (
        *("data=image_folder", f"data.root={photos}", "data.image_size=16"),
        *("data.split=by_class", "data.val_fraction=0.2", "data.test_fraction=0.4"),
        *("batches=balanced", "batches.images_per_class=4", "data.batch_size=512", "device=cpu"),
        *("model=conv_small", "model.width=4", "trainer.max_epochs=1", "trainer.limit_train_batches=2"),
    )
    _, peak = run("train.py", *words, "loss=supcon", "evaluation.resamples=20", f"hydra.run.dir={runs[0]}")
    assert peak < MOST
    plain = ("figures.draw=false", "evaluation.resamples=0")
    train_cli(*words, "loss=multi_similarity", *plain, f"hydra.run.dir={runs[1]}")
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["test/recall_at_1"]["interval_over"] == "classes"
    assert "evaluation.most_classes=1000 classes, found 1,2" in summary["test/nmi"]["reason"]
    with open(runs[0] / "per_class.csv", newline="") as file:
        tested = [row for row in csv.DictReader(file) if row["part"] == "test" and row["images"] != "0"]
    assert len(tested) == CLASSES * 0.4
    figures = {path.stem for path in (runs[0] / "figures").iterdir()}
    assert {"distances_test", "projection_test", "gallery_test", "failures_test", "samples"} <= figures
    _, peak = run("scripts/compare.py", *runs, "--out", tmp_path / "compared")
    assert peak < MOST
    assert (tmp_path / "compared" / "report.html").exists()
