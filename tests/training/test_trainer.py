"""What goes on to Lightning's Trainer, what does not, and how a run ends within an epoch."""

from __future__ import annotations

import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from support.processes import ROOT, Cli

from siamese.config.schema import KEYS, Config
from siamese.config.trainer import NOT_PASSED, seconds
from siamese.config.validate import validate
from siamese.data import load
from siamese.errors import ConfigError
from siamese.runs.checkpoint import read_checkpoint
from siamese.runs.read import read_metrics, read_summary
from siamese.training.build import make_trainer, split_data

# Eight micro-batches an epoch in windows of three: three steps, the last of two micro-batches.
WORDS = (
    *("data=digits", "model=conv_small", "model.width=4", "device=cpu", "data.images_per_class=12"),
    *("data.batch_size=13", "data.eval_batch_size=64", "trainer.accumulate_grad_batches=3", "optimizer.lr=0.01"),
    *("figures.draw=false", "evaluation.resamples=0"),
)


def config(*words: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return validate(compose("train", [*WORDS, "name=run", *words]))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def rows(run: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_metrics(run / "metrics.csv")]


def test_every_argument_of_lightning_is_passed_or_refused() -> None:
    takes = set(inspect.signature(pl.Trainer).parameters)
    passed = {name.removeprefix("trainer.") for name in KEYS if name.startswith("trainer.")}
    assert passed <= takes
    assert passed & NOT_PASSED.keys() == set()
    assert takes == passed | (takes & NOT_PASSED.keys())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trainer.val_check_interval=0.5", "trainer.val_check_interval: no such key here; expected nothing, for every"),
        ("trainer.logger=false", "trainer.logger: no such key here; expected logger=tensorboard|mlflow|wandb"),
        ("+trainer.gpus=1", "trainer.gpus: no such key here; expected device=cuda"),
        ("trainer.max_step=5", "unknown key 'trainer.max_step'; did you mean 'trainer.max_steps'?"),
        ("trainer.max_time=8h", "trainer.max_time=8h: expected DD:HH:MM:SS, such as 00:08:00:00 for eight hours"),
        ("trainer.max_time=00:00:00:00", "trainer.max_time=00:00:00:00: expected DD:HH:MM:SS"),
        ("trainer.deterministic=perhaps", "trainer.deterministic=perhaps: expected one of true, false, warn"),
        ("trainer.profiler=simpl", "trainer.profiler=simpl: expected one of simple, advanced; did you mean 'simple'?"),
        ("trainer.min_epochs=2", "trainer.min_epochs=2: only callbacks.patience ends a run sooner"),
        (
            "callbacks.patience=1 trainer.min_epochs=20",
            "trainer.min_epochs=20: expected at most trainer.max_epochs=15",
        ),
        (
            "trainer.overfit_batches=2 trainer.limit_train_batches=3",
            "trainer.overfit_batches=2: it is a limit too; expected trainer.limit_train_batches=1.0, found 3",
        ),
        (
            "trainer.benchmark=true trainer.deterministic=warn",
            "trainer.benchmark=true: what is fastest may differ from run to run",
        ),
        (
            "trainer.check_val_every_n_epoch=4",
            "trainer.max_epochs=15: with trainer.check_val_every_n_epoch=4 epoch 15 is neither measured nor saved",
        ),
        (
            "trainer.check_val_every_n_epoch=5 callbacks.checkpoint_every=3",
            "callbacks.checkpoint_every=3: with trainer.check_val_every_n_epoch=5",
        ),
    ],
)
def test_what_breaks_a_promise_is_one_line(words: str, expected: str, train_cli: Cli, tmp_path: Path) -> None:
    done = train_cli(*WORDS, *words.split(), f"hydra.run.dir={tmp_path / 'run'}", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {expected}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_a_file_calls_otherwise_is_named_too() -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", [*WORDS, "name=run", "+trainer.limit_val_batches=2"])
    with pytest.raises(ConfigError, match=r"^trainer\.limit_val_batches: no such key here; expected nothing, for"):
        validate(composed)


def test_arguments_reach_lightning(tmp_path: Path) -> None:
    words = (
        *("trainer.check_val_every_n_epoch=5", "trainer.inference_mode=false", "trainer.log_every_n_steps=7"),
        *("trainer.profiler=advanced", "trainer.gradient_clip_val=0.5", "trainer.gradient_clip_algorithm=value"),
        "trainer.overfit_batches=2",
    )
    trainer = make_trainer(config(*words), tmp_path, [pl.Callback()])
    assert trainer.check_val_every_n_epoch == 5
    assert trainer.log_every_n_steps == 7  # type: ignore[attr-defined]
    assert (trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (0.5, "value")
    assert trainer.limit_train_batches == 2
    assert trainer.limit_val_batches == 1.0
    assert isinstance(trainer.profiler, pl.profilers.AdvancedProfiler)
    assert not trainer.validate_loop.inference_mode
    assert seconds("01:02:03:04") == 93784


def test_overfitting_is_on_the_same_tuples_in_every_epoch() -> None:
    plain, overfitting = config(), config("trainer.overfit_batches=2")
    again, other = (split_data(one, load(one.data, 0)) for one in (overfitting, plain))
    for data in (again, other):
        data.trainer = type("Trainer", (), {"current_epoch": 3, "fit_loop": type("Loop", (), {"batch_idx": -1})})()
    first, second = next(iter(again.loader)), next(iter(other.loader))
    assert torch.equal(first.images[:13], again.epoch(0).items[:13, 0])
    assert torch.equal(second.images[:13], other.epoch(3).items[:13, 0])
    assert not torch.equal(first.images, second.images)


@pytest.fixture(scope="module")
def whole(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Five steps: an epoch of three, and two of the next."""
    run = tmp_path_factory.mktemp("whole") / "run"
    return run, train_cli(*WORDS, "trainer.max_steps=5", "scheduler=cosine", f"hydra.run.dir={run}").stdout


def test_a_run_ends_after_its_steps_with_results(whole: tuple[Path, str], train_cli: Cli) -> None:
    run, said = whole
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    found = read_metrics(run / "metrics.csv")
    assert [(row["epoch"], row["step"]) for row in found] == [("0", "0"), ("1", "3"), ("2", "5")]
    assert "stopped at epoch 2, step 5: trainer.max_steps=5\n" in said
    assert "train further" not in said
    assert read_summary(run)["val/auc"]["epoch"] in (1, 2)
    lr = [0.01 * (1 + math.cos(math.pi * int(row["step"]) / 5)) / 2 for row in found]  # the schedule is of these steps
    assert [float(row["lr"]) for row in found] == pytest.approx(lr, abs=1e-12)
    done = train_cli(f"resume={run}", "trainer.max_epochs=30", check=False)
    assert done.returncode == 2
    assert "the learning rate follows scheduler.T_max" in done.stderr
    done = train_cli(f"resume={run}", check=False)
    assert done.stderr == (
        f"error: resume={run}: the run has ended at epoch 2, by trainer.max_steps=5; a longer one is another run\n"
    )


def test_a_run_ends_after_its_time(train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = train_cli(*WORDS, "trainer.max_time=00:00:00:01", "trainer.max_epochs=5000", f"hydra.run.dir={run}").stdout
    found = read_metrics(run / "metrics.csv")
    assert f"stopped at epoch {found[-1]['epoch']}, step {found[-1]['step']}: trainer.max_time=00:00:00:01\n" in said
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert read_summary(run)["test/auc"]["epoch"] <= int(found[-1]["epoch"]) < 5000
    done = train_cli(f"resume={run}", check=False)
    assert "by trainer.max_time=00:00:00:01; a longer one is another run" in done.stderr


def test_epochs_between_those_that_are_measured_train_alike(train_cli: Cli, tmp_path: Path) -> None:
    words = (*WORDS, "trainer.max_epochs=4", "trainer.profiler=simple")
    train_cli(*words, f"hydra.run.dir={tmp_path / 'every'}")
    train_cli(*words, "trainer.check_val_every_n_epoch=2", f"hydra.run.dir={tmp_path / 'second'}")
    every, second = rows(tmp_path / "every"), rows(tmp_path / "second")
    assert [row["epoch"] for row in second] == ["0", "2", "4"]
    assert second == [row for row in every if row["epoch"] in ("0", "2", "4")]
    one, other = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("every", "second"))
    assert one is not None
    assert other is not None
    assert same(one["state_dict"], other["state_dict"])
    assert "run_training_batch" in (tmp_path / "every" / "profile" / "fit-simple.txt").read_text()
