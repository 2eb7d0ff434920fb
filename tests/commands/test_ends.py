"""The end of a run: its results stand, whatever becomes of its pictures and its logger."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.images import write_folder
from support.processes import Cli

pytestmark = pytest.mark.slow

QUICK = ("model=conv_small", "model.width=4", "device=cpu", "trainer.max_epochs=1", "callbacks.progress_bar=false")
SPOILT = """
import siamese.figures.redraw as redraw
from pytorch_lightning.loggers import CSVLogger


def too_large(*_, **__):
    assert (OUT / "summary.json").exists()
    raise MemoryError


redraw.gallery = redraw.roc_curves = too_large


class Gone(CSVLogger):
    def log_metrics(self, metrics, step=None):
        if any(name.startswith("test/") for name in metrics):
            raise ConnectionError("the server is\\ngone")
        super().log_metrics(metrics, step)

    def finalize(self, status):
        raise ConnectionError("and does not come back")
"""


def test_neither_a_figure_nor_a_logger_costs_a_run_its_results(train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "spoilt.py").write_text(f"from pathlib import Path\n\nOUT = Path({str(run)!r})\n{SPOILT}")
    logger = ("logger._target_=spoilt.Gone", f"+logger.save_dir={tmp_path / 'csv'}")
    words = ("data=digits", "data.images_per_class=30", *QUICK, *logger, f"hydra.run.dir={run}")
    done = train_cli(*words, PYTHONPATH=str(tmp_path))
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert json.loads((run / "summary.json").read_text())["test/auc"]["value"] is not None
    drawn = {path.stem for path in (run / "figures").iterdir()}
    assert {"samples", "spectrum", "distances_test", "hardest_test"} <= drawn
    assert not {"roc", "gallery_test", "gallery_validation"} & drawn
    said = [line for line in (run / "train.log").read_text().splitlines() if "could not be drawn" in line]
    assert [line.partition("figures: ")[2] for line in said] == [
        f"{name} could not be drawn (MemoryError: MemoryError)"
        for name in ("roc", "gallery_validation", "gallery_test")
    ]
    lines = [line for line in done.stdout.splitlines() if "logger: " in line]
    assert lines == ["logger: spoilt.Gone failed (ConnectionError: the server is gone)"]
    assert "train further" in done.stdout


def test_what_is_shown_of_many_classes_is_bounded(train_cli: Cli, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", {f"class {i:02d}": 6 + i % 3 for i in range(45)}, size=(8, 8))
    run = tmp_path / "run"
    words = (
        "data=image_folder",
        f"data.root={folder}",
        "data.image_size=32",
        "data.batch_size=16",
        *QUICK,
        "figures.draw=false",
    )
    train_cli(*words, f"hydra.run.dir={run}", XDG_CACHE_HOME=str(tmp_path))
    with np.load(run / "arrays" / "samples.npz") as samples:
        counts = json.loads((run / "manifest.json").read_text())["split"]["classes"]["train"]
        names = samples["class_names"].tolist()
        assert dict(zip(names, samples["class_counts"].tolist(), strict=True)) == {n: counts.get(n, 0) for n in names}
        shown, of_each = np.unique(samples["labels"], return_counts=True)
        assert len(shown) == 24
        assert (of_each == np.minimum(samples["class_counts"][shown], 5)).all()
        assert np.delete(samples["class_counts"], shown).max() <= samples["class_counts"][shown].min()
    with open(run / "per_class.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["part"], row["class"]) for row in rows] == [(p, n) for p in ("validation", "test") for n in names]
    assert not [name for name in json.loads((run / "summary.json").read_text()) if name.count("/") > 1]
