"""What the best checkpoint is best by, and when a run stops since it gets no better."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from support.processes import ROOT, Cli

from siamese.config.schema import KEYS, Config, is_scientific
from siamese.config.validate import validate
from siamese.errors import ConfigError
from siamese.evaluation.names import direction
from siamese.figures.training import metric_curves
from siamese.runs.directory import RunDirectory
from siamese.runs.read import read_metrics, read_summary
from siamese.training.build import make_kind
from siamese.training.checkpoints import NONE_YET, Checkpoints, better
from siamese.training.monitor import check_monitor
from siamese.training.signals import StopRequest

QUICK = (
    *("data=digits", "model=conv_small", "model.width=4", "device=cpu", "data.images_per_class=30"),
    *("data.batch_size=16", "optimizer.lr=0.01", "figures.draw=false"),
)
TIES = "callbacks.monitor=val/recall_at_10"  # of 40 images: many epochs are as good


def config(*words: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return validate(compose("train", [*QUICK, "name=run", *words]))


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def values(run: Path, name: str) -> list[float]:
    """Of each epoch from the first on."""
    return [float(row[f"val/{name}"]) for row in read_metrics(run / "metrics.csv")[1:]]


def best_epoch(found: list[float], name: str) -> int:
    """The last of the epochs with the best value, from 1."""
    best = max(found) if direction(name) == "max" else min(found)
    return max(epoch for epoch, value in enumerate(found, 1) if value == best)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1), st.sampled_from(["max", "min"]))
def test_of_as_good_epochs_the_last_is_best_and_the_first_counts_for_patience(found: list[float], way: str) -> None:
    best = dict(NONE_YET)
    for epoch, value in enumerate(found, 1):
        best = better(best, value, epoch, way)
    good = max(found) if way == "max" else min(found)
    assert best == {"value": good, "epoch": len(found) - found[::-1].index(good), "since": found.index(good) + 1}


@pytest.mark.parametrize("name", ["map_at_r", "recall_at_10", "eer", "cos_mean", "loss", "auc"])
def test_best_is_the_last_of_the_best_epochs_and_the_summary_has_the_same_bits(
    name: str, train_cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = (*QUICK, "data.val_fraction=0.4", f"callbacks.monitor=val/{name}", "trainer.max_epochs=3")
    said = train_cli(*words, f"hydra.run.dir={run}").stdout
    found = values(run, name)
    epoch = best_epoch(found, name)
    entry = read_summary(run)[f"val/{name}"]
    assert (entry["epoch"], entry["value"]) == (epoch, found[epoch - 1])
    saved = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["epoch"] + 1 == epoch
    assert f"best epoch {epoch} of 3, by val/{name}, after" in said
    assert f"val/{name} {found[2]:.4f}" in next(line for line in said.splitlines() if line.startswith("epoch 3/3"))
    titles = {axis.get_title() for axis in metric_curves(read_metrics(run / "metrics.csv")).axes}
    assert name == "loss" or len(titles) == (5 if name in ("map_at_r", "recall_at_10", "eer") else 4)


@pytest.fixture(scope="module")
def stopped(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    run = tmp_path_factory.mktemp("stopped") / "run"
    said = train_cli(*QUICK, TIES, "callbacks.patience=2", "trainer.max_epochs=12", f"hydra.run.dir={run}").stdout
    return run, said


def test_a_run_that_gets_no_better_stops_and_is_complete(stopped: tuple[Path, str]) -> None:
    run, said = stopped
    found = values(run, "recall_at_10")
    since, best = found.index(max(found)) + 1, best_epoch(found, "recall_at_10")
    assert len(found) == since + 2 < 12
    assert all(found.index(max(found[:epoch])) + 1 + 2 > epoch for epoch in range(1, len(found)))
    assert f"stopped at epoch {len(found)}: val/recall_at_10 has not improved since epoch {since}\n" in said
    assert f"best epoch {best} of {len(found)}, by val/recall_at_10" in said
    assert "callbacks.patience=null  # train further" in said
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert read_summary(run)["val/recall_at_10"]["epoch"] == best


@pytest.mark.parametrize("more", ["", "trainer.max_epochs=40", "callbacks.patience=2"])
def test_a_stopped_run_stays_so(more: str, stopped: tuple[Path, str], train_cli: Cli) -> None:
    run, epochs = stopped[0], len(values(stopped[0], "recall_at_10"))
    done = train_cli(f"resume={run}", *more.split(), check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: resume={run}: the run has ended at epoch {epochs}, since val/recall_at_10 has not improved since "
        f"epoch {epochs - 2}; raise callbacks.patience above 2 or set it to null to go on\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("callbacks.patience=1", "callbacks.patience=1: resume may raise it above 2 or set it to null, not lower it"),
        ("callbacks.monitor=val/auc", "callbacks.monitor=val/auc: resume cannot change what the run computes"),
    ],
)
def test_what_resume_may_not_change(words: str, expected: str, stopped: tuple[Path, str], train_cli: Cli) -> None:
    done = train_cli(f"resume={stopped[0]}", words, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {expected}")


@pytest.mark.slow
def test_without_patience_it_goes_on_to_its_last_epoch_as_if_never_stopped(train_cli: Cli, tmp_path: Path) -> None:
    words = (*QUICK, TIES, "trainer.max_epochs=6")
    train_cli(*words, "callbacks.patience=1", f"hydra.run.dir={tmp_path}/run")
    before = len(values(tmp_path / "run", "recall_at_10"))
    assert before < 6
    train_cli(f"resume={tmp_path}/run", "callbacks.patience=null")
    train_cli(*words, f"hydra.run.dir={tmp_path}/whole")
    one, other = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(tmp_path / run / "metrics.csv")]
        for run in ("run", "whole")
    )
    assert one == other
    assert read_summary(tmp_path / "run") == read_summary(tmp_path / "whole")


@pytest.mark.slow
def test_two_devices_stop_together(train_cli: Cli, tmp_path: Path) -> None:
    words = (*QUICK, "device=cpu_ddp", TIES, "callbacks.patience=1", "trainer.max_epochs=12")
    said = train_cli(*words, "trainer.accumulate_grad_batches=2", f"hydra.run.dir={tmp_path}/run").stdout
    found = values(tmp_path / "run", "recall_at_10")
    assert len(found) < 12
    assert f"stopped at epoch {len(found)}: val/recall_at_10 has not improved since epoch {len(found) - 1}\n" in said
    assert read_summary(tmp_path / "run")["val/recall_at_10"]["epoch"] == best_epoch(found, "recall_at_10")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("callbacks.monitor=val/map_at_R", "no such measure; expected val/NAME with a name of docs/evaluation.md or a"),
        ("callbacks.monitor=val/map_at_R", "did you mean 'val/map_at_r'?"),
        ("callbacks.monitor=map_at_r", "did you mean 'val/map_at_r'?"),
        ("callbacks.monitor=val/koleo", "a term of the loss (loss, triplet)"),
        ("callbacks.monitor=test/auc", "the test part is never chosen by"),
        ("callbacks.monitor=val/ellipse_area_mean", "neither more nor less of it is better"),
        ("callbacks.monitor=val/pair_auc", "only batches=pairs measures it; found batches=triplets"),
    ],
)
def test_what_cannot_be_monitored_is_refused_before_anything_is_read(words: str, expected: str) -> None:
    asked = config(words)
    line = refused(lambda: check_monitor(asked, make_kind(asked)))
    assert line.startswith(f"{words}: ")
    assert expected in line


@pytest.mark.parametrize(
    "words",
    [
        "",
        "callbacks.monitor=val/triplet",
        "loss=triplet_koleo callbacks.monitor=val/koleo",
        "batches=pairs loss=contrastive callbacks.monitor=val/pair_auc",
    ],
)
def test_terms_of_the_loss_and_pairs_can_be_monitored(words: str) -> None:
    asked = config(*words.split())
    check_monitor(asked, make_kind(asked))
    assert asked.callbacks.monitor is None or asked.callbacks.monitor in words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear_probe", "undefined on the validation images: it needs 5 images of each class, one a fold, found a"),
        ("view_mrr", "it is measured where images have no classes, and these have 10"),
    ],
)
def test_what_these_images_do_not_have_ends_before_training(
    name: str, expected: str, train_cli: Cli, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    done = train_cli(*QUICK, f"callbacks.monitor=val/{name}", f"hydra.run.dir={run}", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: callbacks.monitor=val/{name}: {expected}")
    assert done.stderr.count("\n") == 1
    assert not (run / "metrics.csv").exists()


def test_what_decides_the_weights_is_science_and_the_rest_of_callbacks_is_not() -> None:
    science = {name for name in KEYS if name.startswith("callbacks.") and is_scientific(name)}
    assert science == {f"callbacks.{name}" for name in ("monitor", "patience", "ema", "swa", "extra", "unfreeze")}


def test_a_checkpoint_of_an_earlier_version_counts_from_its_best_epoch(tmp_path: Path) -> None:
    checkpoints = Checkpoints(RunDirectory(tmp_path), StopRequest(), lambda: None, patience=2)
    checkpoints.load_state_dict({"best": {"value": 0.5, "epoch": 4}, "also": [], "random": None})
    assert checkpoints.best == {"value": 0.5, "epoch": 4, "since": 4}
    assert checkpoints.state_dict()["validated"] == 0
