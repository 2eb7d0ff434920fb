"""A run that starts from another's network: with its measures, on record, and good without it from then on."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import torch
from support.processes import Cli

from siamese.runs.checkpoint import read_checkpoint

SMALL = (
    "data=digits model=conv_small model.width=4 device=cpu data.images_per_class=12 data.batch_size=20 "
    "optimizer.lr=0.01 figures.draw=false evaluation.resamples=0"
).split()


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv") as file:
        return list(csv.DictReader(file))


def test_a_run_goes_on_from_what_another_was_measured_with(train_cli: Cli, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train_cli(*SMALL, f"hydra.run.dir={first}", "trainer.max_epochs=2", "callbacks.ema=0.8")
    words = [*SMALL, "loss=triplet_koleo", f"model.weights={first}", "trainer.max_epochs=1"]
    done = train_cli(*words, f"hydra.run.dir={second}")
    said = [line for line in done.stdout.splitlines() if "model.weights=" in line]
    assert len(said) == 1
    assert "checkpoints/best.ckpt: loaded the backbone (29 tensors), the projection, the mean and std" in said[0]
    assert "left at random: nothing" in said[0]
    best = json.loads((first / "summary.json").read_text())["val/auc"]["epoch"]
    before, after = rows(first)[best], rows(second)[0]
    assert best > 0
    same = [name for name in before if name.startswith("val/") and name != "val/loss"]
    assert len(same) > 3
    for name in same:
        assert after[name] == before[name], name
    checkpoint = read_checkpoint(first / "checkpoints" / "best.ckpt")
    assert checkpoint is not None
    assert not torch.equal(*(checkpoint[part]["net.projection.weight"] for part in ("state_dict", "raw")))

    recorded = json.loads((second / "manifest.json").read_text())["weights"]
    assert recorded["file"].endswith("first/checkpoints/best.ckpt")
    assert json.loads((first / "manifest.json").read_text())["weights"] is None
    (first / "checkpoints" / "best.ckpt").unlink()  # from here on they are not needed
    again = tmp_path / "again"
    shutil.copytree(second, again)
    train_cli(f"resume={second}", "trainer.max_epochs=2")
    assert [row["epoch"] for row in rows(second)] == ["0", "1", "2"]

    shutil.rmtree(again / "checkpoints")  # but to begin again they are, and the same ones
    gone = train_cli(f"resume={again}", "trainer.max_epochs=2", check=False)
    assert gone.returncode == 1
    assert f"model.weights={first}: no checkpoints/best.ckpt there; expected one of last.ckpt" in gone.stderr
    shutil.copy(second / "checkpoints" / "last.ckpt", first / "checkpoints" / "best.ckpt")
    changed = train_cli(f"resume={again}", "trainer.max_epochs=2", check=False)
    assert changed.returncode == 2
    assert f"the weights that it started from have changed: {first}" in changed.stderr
    assert f"expected {recorded['fingerprint']}" in changed.stderr


def test_weights_that_are_not_there_are_refused_before_anything_is_made(train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train_cli(*SMALL, f"hydra.run.dir={run}", f"model.weights={tmp_path / 'nothing'}", check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].endswith("nothing: no such file or run")
    assert not run.exists()
