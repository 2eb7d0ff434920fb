"""scripts/lr_find.py: the losses under rising rates against a plain loop, and the rate that it suggests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.processes import ROOT, Cli

from siamese.config.schema import Config
from siamese.config.validate import validate
from siamese.data import load
from siamese.training.build import build, split_data
from siamese.training.rates import smoothed, steepest

# Eight micro-batches an epoch in windows of three: three steps, the last of two micro-batches.
WORDS = (
    *("data=digits", "model=conv_small", "model.width=4", "device=cpu", "device.precision=64-true"),
    *("data.images_per_class=12", "data.batch_size=13", "trainer.accumulate_grad_batches=3", "optimizer=sgd"),
    *("optimizer.momentum=0.0", "optimizer.nesterov=false", "optimizer.weight_decay=0.0", "optimizer.lr=0.02"),
    "scheduler=cosine",
)
SCRIPT = "scripts/lr_find.py"


def config(*words: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return validate(compose("train", [*WORDS, "name=run", *words]))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "lr_find.csv").open() as file:
        return list(csv.DictReader(file))


def by_hand(asked: Config, rates: list[float]) -> list[float]:
    """The mean loss of each window before its step, of gradient descent written out; proxies have twice the rate."""
    pl.seed_everything(asked.seed, verbose=False)
    data = split_data(asked, load(asked.data, asked.seed))
    module = build(asked, data).train()
    own = list(module.objective.parameters())
    losses: list[float] = []
    epoch = 0
    while len(losses) < len(rates):
        data.loader.epoch = lambda epoch=epoch: epoch  # type: ignore[misc]
        batches = list(data.loader)
        for start in range(0, len(batches), 3):
            found = []
            window = batches[start : start + 3]
            for batch in window:
                made = data.on_after_batch_transfer(batch._replace(images=torch.as_tensor(batch.images)), 0)
                loss, _ = module.objective(module.net(made.images), made.labels, made.tuples)
                (loss / len(window)).backward()
                found.append((float(loss.detach()), len(made.labels)))
            with torch.no_grad():
                for parameter in module.parameters():
                    share = 2 if any(parameter is one for one in own) else 1
                    if parameter.grad is not None:
                        parameter -= share * rates[len(losses)] * parameter.grad
                        parameter.grad = None
            losses.append(sum(value * n for value, n in found) / sum(n for _, n in found))
            if len(losses) == len(rates):
                break
        epoch += 1
    return losses


def test_the_losses_are_those_of_a_loop_written_out_and_repeat(cli: Cli, tmp_path: Path) -> None:
    words = ("loss=proxy_softmax", "loss.lr=0.04")
    flags = ("--low", "0.001", "--high", "0.5", "--steps", "11", "--out")
    said = cli(SCRIPT, *WORDS, *words, *flags, tmp_path / "one").stdout
    found = rows(tmp_path / "one")
    expected = [0.001 * 500 ** (k / 10) for k in range(11)]
    assert [int(row["step"]) for row in found] == list(range(11))
    assert [float(row["lr"]) for row in found] == pytest.approx(expected, rel=1e-12)
    assert [float(row["loss"]) for row in found] == pytest.approx(by_hand(config(*words), expected), rel=1e-9)
    place = steepest(np.array(expected), np.array([float(row["smoothed"]) for row in found]))
    assert place is not None
    assert f"suggested: optimizer.lr={expected[place]:.2g}, where the smoothed loss falls fastest\n" in said
    assert {file.name for file in (tmp_path / "one").iterdir()} == {"lr_find.csv", "lr_find.png"}
    with Image.open(tmp_path / "one" / "lr_find.png") as image:
        assert min(image.size) > 500
    cli(SCRIPT, *WORDS, *words, *flags, tmp_path / "two")
    assert rows(tmp_path / "two") == found
    cli(SCRIPT, *WORDS, *words, "seed=1", *flags, tmp_path / "three")
    assert rows(tmp_path / "three") != found


def test_a_loss_that_is_no_number_ends_it(cli: Cli, tmp_path: Path) -> None:
    words = ("loss=proxy_softmax", "optimizer.weight_decay=1.0", "--high", "1e38", "--steps", "30", "--out")
    said = cli(SCRIPT, *WORDS, *words, tmp_path / "late", "--low", "1e-20").stdout
    found = rows(tmp_path / "late")
    assert 10 <= len(found) < 30
    assert f"the loss became NaN or infinite after step {len(found)} of 30, at a rate of " in said
    done = cli(SCRIPT, *WORDS, *words, tmp_path / "early", "--low", "1e37", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the loss became NaN or infinite at step ")
    assert done.stderr.endswith("too early for a curve; try a smaller --low\n")
    assert not (tmp_path / "early").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--low 0", "--low 0: expected a number above 0"),
        ("--low 0.1 --high 0.1", "--high 0.1: expected a number above --low 0.1"),
        ("--high inf", "--high inf: expected a number above --low 1e-06"),
        ("--steps 9", "--steps 9: expected at least 10"),
        ("--step 20", "unrecognized arguments: --step 20; did you mean '--steps'?"),
        ("resume=x", "resume: a range test begins anew; expected the words of a new run"),
        ("optimizer.lr=0", "optimizer.lr=0: expected a number above 0"),
    ],
)
def test_what_cannot_be_tested_is_one_line(words: str, expected: str, cli: Cli, tmp_path: Path) -> None:
    done = cli(SCRIPT, *WORDS, "--out", tmp_path / "out", *words.split(), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {expected}")
    assert not (tmp_path / "out").exists()


@settings(deadline=None)
@given(losses=st.lists(st.floats(-5, 5), min_size=1, max_size=40), steps=st.integers(10, 200))
def test_smoothing_is_a_weighted_mean_of_neighbours(losses: list[float], steps: int) -> None:
    reach = max(1, steps // 20)
    for place, value in enumerate(smoothed(np.array(losses), steps)):
        near = [(reach + 1 - abs(place - i), loss) for i, loss in enumerate(losses) if abs(place - i) <= reach]
        assert value == pytest.approx(sum(w * x for w, x in near) / sum(w for w, _ in near), abs=1e-9)


def test_the_steepest_place_is_before_the_lowest() -> None:
    rates = np.geomspace(1e-6, 1, 61)
    x = np.log10(rates)
    valley = 1 / (1 + np.exp(4 * (x + 3))) + 5 / (1 + np.exp(-8 * (x + 1)))  # falls at 1e-3, explodes at 1e-1
    valley[50:55] = [5, 4, 3, 4, 5]  # what falls faster afterwards does not count
    assert steepest(rates, valley) == 30
    assert steepest(rates, np.linspace(0, 1, 61)) is None
    assert steepest(rates, np.ones(61)) is None
