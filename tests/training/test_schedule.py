"""The learning rates of a run, against their formulas: warm-ups, and a schedule that waits for a measure."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processes import ROOT, Cli
from torch.optim.lr_scheduler import CosineAnnealingLR

from siamese.config.earlier import brought_up_to_date
from siamese.config.schema import Config
from siamese.config.validate import to_dict, validate
from siamese.errors import ConfigError
from siamese.runs.read import read_metrics
from siamese.training.schedule import Schedule, schedule

# Three steps an epoch.
WORDS = (
    *("data=digits", "model=conv_small", "model.width=4", "device=cpu", "data.images_per_class=12"),
    *("data.batch_size=13", "data.eval_batch_size=64", "trainer.accumulate_grad_batches=3", "optimizer.lr=0.01"),
    *("figures.draw=false", "evaluation.resamples=0"),
)
RATE = 0.01


def config(*words: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return validate(compose("train", [*WORDS, "name=run", *words]))


def sgd(*rates: float) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def after_warmup(step: int, length: int) -> float:
    return min(1.0, (step + 1) / (length + 1))


def cosine(step: int, span: int) -> float:
    return (1 + math.cos(math.pi * max(0, step) / span)) / 2


@pytest.mark.parametrize(
    ("words", "rate"),
    [
        ("scheduler=constant scheduler.warmup=2", lambda row: after_warmup(row["epoch"], 2)),
        (
            "scheduler=constant scheduler.warmup=5 scheduler.interval=step",
            lambda row: after_warmup(row["step"], 5),
        ),
        (
            "scheduler=cosine scheduler.warmup=0.4",  # of twelve steps: five
            lambda row: after_warmup(row["step"], 5) * cosine(row["step"] - 5, 7),
        ),
        (
            "scheduler=step scheduler.step_size=1 scheduler.gamma=0.5 scheduler.warmup=2",
            lambda row: after_warmup(row["epoch"], 2) * 0.5 ** max(0, row["epoch"] - 2),
        ),
    ],
)
def test_a_warm_up_leads_into_any_schedule(words: str, rate: object, train_cli: Cli, tmp_path: Path) -> None:
    assert callable(rate)
    train_cli(*WORDS, *words.split(), "trainer.max_epochs=4", f"hydra.run.dir={tmp_path / 'run'}")
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert [row["step"] for row in rows] == ["0", "3", "6", "9", "12"]
    expected = [RATE * rate({name: int(row[name]) for name in ("epoch", "step")}) for row in rows]
    assert [float(row["lr"]) for row in rows] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("words", "name", "sign"), [("", "val/loss", 1), ("callbacks.monitor=val/recall_at_10", "val/recall_at_10", -1)]
)
def test_a_plateau_reduces_what_stays_as_it_was(
    words: str, name: str, sign: int, train_cli: Cli, tmp_path: Path
) -> None:
    """The rate after each epoch, from the measures that the run records."""
    train_cli(
        *(*WORDS, *words.split(), "scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5"),
        *("scheduler.threshold=0.05", "scheduler.threshold_mode=abs", "scheduler.warmup=2"),
        *("trainer.max_epochs=8", f"hydra.run.dir={tmp_path / 'run'}"),
    )
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    best, rate, expected = math.inf, 1.0, [1 / 3, 2 / 3]
    for row in rows[2:]:  # the second epoch ends the warm-up, and is the first that counts
        value = sign * float(row[name])
        if value < best - 0.05:
            best = value
        else:
            rate /= 2
        expected.append(rate)
    assert [float(row["lr"]) for row in rows] == pytest.approx([RATE * share for share in expected], rel=1e-12)
    assert len(set(expected)) > 3


@settings(deadline=None, max_examples=50)
@given(
    length=st.integers(0, 6),
    span=st.integers(1, 8),
    stop=st.integers(0, 14),
    rates=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=3),
)
def test_a_schedule_that_is_gone_on_with_is_the_same(length: int, span: int, stop: int, rates: list[float]) -> None:
    def made() -> tuple[torch.optim.SGD, Schedule]:
        optimizer = sgd(*rates)
        return optimizer, Schedule(optimizer, CosineAnnealingLR(optimizer, span), length)

    def taken(optimizer: torch.optim.SGD, planned: Schedule, steps: int) -> list[list[float]]:
        found = []
        for _ in range(steps):
            optimizer.step()
            planned.step()
            found.append(planned.get_last_lr())
        return found

    whole = taken(*made(), 15)
    optimizer, planned = made()
    before = taken(optimizer, planned, stop)
    again, gone_on = made()
    again.load_state_dict(optimizer.state_dict())
    gone_on.load_state_dict(planned.state_dict())
    assert before + taken(again, gone_on, 15 - stop) == whole
    alone = sgd(*rates)
    bare = CosineAnnealingLR(alone, span)
    for found in whole[length:]:  # what follows a warm-up is what it is without one
        alone.step()
        bare.step()
        assert found == bare.get_last_lr()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("scheduler.warmup=0", "scheduler.warmup=0: expected a fraction above 0.0 and below 1.0, or a whole number"),
        ("scheduler.warmup=1.0", "scheduler.warmup=1.0: expected a fraction above 0.0 and below 1.0"),
        ("scheduler.warmup=long", "scheduler.warmup=long: expected float or int or null, found str"),
        ("scheduler.warmup=15", "scheduler.warmup=15: expected fewer than the 15 epochs of the run (trainer.max_epoch"),
        ("scheduler=plateau +scheduler.mode=max", "scheduler.mode=max: follows from what is waited for, val/loss"),
        ("scheduler=plateau scheduler.patince=1", "unknown key 'scheduler.patince'; did you mean 'scheduler.patience'"),
        ("scheduler=plateau scheduler.factor=2", "scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau refuses"),
    ],
)
def test_what_is_no_schedule_is_one_line(words: str, expected: str, train_cli: Cli, tmp_path: Path) -> None:
    done = train_cli(*WORDS, *words.split(), f"hydra.run.dir={tmp_path / 'run'}", check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {expected}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_warm_up_as_long_as_the_run_is_refused_once_its_steps_are_known() -> None:
    asked = config("scheduler=cosine", "scheduler.warmup=12")
    assert schedule(asked, sgd(RATE), None) is not None
    assert schedule(asked, sgd(RATE), 13) is not None
    with pytest.raises(ConfigError, match=r"^scheduler\.warmup=12: expected fewer than the 12 steps of the run$"):
        schedule(asked, sgd(RATE), 12)


def test_a_measure_that_is_not_there_is_named() -> None:
    planned = schedule(config("scheduler=plateau"), sgd(RATE), 10)
    assert planned is not None
    with pytest.raises(ConfigError, match=r"^scheduler: ReduceLROnPlateau waits for val/loss, which is not measured"):
        planned["scheduler"].require({"auc": 1.0})


def test_an_earlier_configuration_had_no_warm_up() -> None:
    today = to_dict(config("scheduler=cosine"))
    before = {key: value for key, value in today["scheduler"].items() if key != "warmup"}
    assert brought_up_to_date({**today, "scheduler": before}) == today
