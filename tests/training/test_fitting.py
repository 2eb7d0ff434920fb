"""data.effective_batch_size and data.batch_size=auto: the window follows, and the micro-batch is one that fits."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st
from support.accumulating import assert_close
from support.processes import ROOT, Cli
from support.synthetic_runs import write_run

from siamese.compare.settings import settings_of
from siamese.config.batch import cuts
from siamese.config.validate import validate
from siamese.errors import ConfigError
from siamese.runs.run import Run, read_run
from siamese.training.check import Command, check
from siamese.training.fitting import largest_that_fits
from siamese.training.trial import _on_cpu

AUTO = ("data.effective_batch_size=48", "data.batch_size=auto")


def composed(*words: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", ["data=digits", "model=conv_small", "device=cpu", "name=x", *words])


@given(st.sets(st.integers(1, 300), min_size=1), st.integers(0, 300))
def test_the_largest_that_fits_is_found_and_none_is_tried_twice(sizes: set[int], most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= most

    assert largest_that_fits(sorted(sizes), fits) == max((size for size in sizes if size <= most), default=None)
    assert len(tried) == len(set(tried))
    within = [size for size in tried if size > 8]
    assert all(size <= 2 * max(most, 8) or size == min(s for s in sizes if s > max(most, 8)) for size in within)


@pytest.mark.parametrize(
    ("words", "window"), [("", 6), ("device=cpu_ddp", 3), ("trainer.accumulate_grad_batches=6", 6)]
)
def test_the_window_follows_from_the_batch_of_a_step(words: str, window: int) -> None:
    config = validate(composed("data.effective_batch_size=48", "data.batch_size=8", *words.split()))
    assert config.trainer.accumulate_grad_batches == window
    assert config.data.batch_size == 8


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("data.batch_size=auto", "data.batch_size=auto: it is cut from the batch of a step; expected data.effective_"),
        ("data.effective_batch_size=50", "data.effective_batch_size=50: expected a multiple of data.batch_size=64"),
        (
            "device=cpu_ddp data.effective_batch_size=50 data.batch_size=8",
            "expected a multiple of data.batch_size=8 × 2 devices, such as 48 or 64",
        ),
        ("device=cpu_ddp data.effective_batch_size=49 data.batch_size=auto", "expected a multiple of the 2 devices"),
        (
            "data.effective_batch_size=48 data.batch_size=8 trainer.accumulate_grad_batches=2",
            "trainer.accumulate_grad_batches=2: data.effective_batch_size=48 with data.batch_size=8 makes it 6",
        ),
        (
            "data.effective_batch_size=48 data.batch_size=8 trainer.accumulate_grad_batches=1",
            "trainer.accumulate_grad_batches=1: with data.effective_batch_size the window follows",
        ),
        (f"{' '.join(AUTO)} trainer.accumulate_grad_batches=2", "with data.batch_size=auto the window is found"),
        (f"{' '.join(AUTO)} trainer.limit_train_batches=3", "trainer.limit_train_batches=3: it counts micro-batches"),
        (f"{' '.join(AUTO)} accumulation=memory", "accumulation.mode=memory: what it remembers follows from the cut"),
        (
            "batches=balanced loss=supcon data.batch_size=auto data.effective_batch_size=12",
            "data.effective_batch_size=12: expected a multiple of 16",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_in_a_line(words: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        check(Command(composed(*words.split()), tuple(words.split())), tmp_path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


CONFIG = validate(composed(*AUTO))


@given(st.integers(1, 200), st.integers(1, 4), st.integers(1, 8))
def test_cuts_are_those_whose_product_is_the_batch(share: int, devices: int, counted: int) -> None:
    data = dataclasses.replace(CONFIG.data, effective_batch_size=share * devices)
    config = dataclasses.replace(CONFIG, data=data, device=dataclasses.replace(CONFIG.device, devices=devices))
    least = 1 if counted == 1 else 2 * counted
    every = [(size, window) for size in range(least, share + 1) for window in range(1, share + 1)]
    expected = [(size, window) for size, window in every if size * window == share and size % counted == 0]
    if expected:
        found = [(c.data.batch_size, c.trainer.accumulate_grad_batches) for c in cuts(config, counted)]
        assert found == expected
    else:
        with pytest.raises(ConfigError, match=f"expected a multiple of {least * devices}"):
            cuts(config, counted)


def test_a_trial_on_the_cpu_takes_what_it_takes_and_is_ended_above_the_budget() -> None:
    kept: list[Any] = []
    taken, fits = _on_cpu(lambda: kept.append(torch.zeros(25_000_000).add_(1)), 10**9)
    assert fits
    assert taken == pytest.approx(1e8, rel=0.1)
    assert not kept

    def without_end() -> None:
        while True:
            kept.append(torch.zeros(2_500_000).add_(1))

    taken, fits = _on_cpu(without_end, 5 * 10**7)
    assert not fits
    assert taken < 10**9

    def refused() -> None:
        raise MemoryError

    assert not _on_cpu(refused, 10**9)[1]
    assert not _on_cpu(lambda: os.kill(os.getpid(), signal.SIGKILL), 10**9)[1]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        _on_cpu(lambda: kept.append(1 / 0), 10**9)


WORDS = (
    "data=digits data.images_per_class=12 data.val_fraction=0.3 data.image_size=64 model=conv_small "
    "model.embedding_dim=6 loss=triplet_koleo loss.koleo_weight=0.5 accumulation=exact device=cpu "
    "device.precision=64-true optimizer=sgd optimizer.lr=0.1 trainer.max_epochs=1 figures.draw=false "
    "model._target_=support.accumulating.plain_net"
).split()
TESTS = {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_whatever_micro_batch_fits_the_run_is_the_same(train_cli: Cli, tmp_path: Path) -> None:
    def trained(name: str, *words: str) -> dict[str, torch.Tensor]:
        train_cli(*WORDS, *words, f"hydra.run.dir={tmp_path / name}", **TESTS)
        return torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    def batch(name: str) -> dict[str, Any]:
        return json.loads((tmp_path / name / "manifest.json").read_text())["batch"]

    expected = trained("whole", "data.batch_size=48")
    assert_close(trained("1.0", *AUTO, "device.memory_budget=1"), expected, 1e-9)
    taken = {one["micro_batch"]: one["gb"] for one in batch("1.0")["tried"]}
    assert sorted(taken) == [8, 16, 24, 48]
    found = {batch("1.0")["micro_batch"]}
    for smaller, larger in ((16, 24), (24, 48)):
        budget = f"{(taken[smaller] + taken[larger]) / 2:.4f}"
        assert_close(trained(budget, *AUTO, f"device.memory_budget={budget}"), expected, 1e-9)
        said = batch(budget)
        assert said["micro_batch"] * said["window"] == said["effective"] == 48
        assert said["budget_gb"] == float(budget)
        for one in said["tried"]:  # rounded alike, so that what was stopped just above the budget may stand as it
            assert one["gb"] <= float(budget) if one["fits"] else one["gb"] >= float(budget)
        assert said["micro_batch"] == max(one["micro_batch"] for one in said["tried"] if one["fits"])
        found.add(said["micro_batch"])
    assert 48 in found
    assert len(found) > 1  # which ones is a matter of what a trial was seen to take
    run = tmp_path / budget
    config = yaml.safe_load((run / "config.resolved.yaml").read_text())
    assert config["data"]["batch_size"] * config["trainer"]["accumulate_grad_batches"] == 48
    done = train_cli(f"resume={run}", "trust=support.accumulating", "trainer.max_epochs=2", **TESTS)
    assert "data.batch_size=auto" not in done.stdout
    assert f"micro-batch {said['micro_batch']} triplets × window {said['window']}" in done.stdout
    assert batch(budget) == said


@pytest.mark.slow
def test_a_budget_for_not_even_one_is_refused(train_cli: Cli, tmp_path: Path) -> None:
    words = (*AUTO, "device.memory_budget=0.0001", f"hydra.run.dir={tmp_path / 'run'}")
    done = train_cli(*WORDS, "data.image_size=256", *words, check=False, **TESTS)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "data.batch_size=auto: even a micro-batch of 1 takes" in line
    assert "and device.memory_budget=0.0001" in line


def test_a_micro_batch_that_was_found_tells_no_groups_apart_where_every_cut_is_the_same(tmp_path: Path) -> None:
    batch = {"batch": {"micro_batch": 8, "window": 6, "effective": 48, "tried": []}}
    sizes = {"data.batch_size": 8, "trainer.accumulate_grad_batches": 6}

    def settings(name: str, mode: str, manifest: dict[str, Any]) -> tuple[Any, ...]:
        found = read_run(write_run(tmp_path / name, sizes | {"accumulation.mode": mode}, manifest=manifest))
        assert isinstance(found, Run)
        said = settings_of(found)
        return said["data.batch_size"], said["trainer.accumulate_grad_batches"], said["effective_batch"]

    assert settings("exact", "exact", batch) == ("auto", None, 48)
    assert settings("naive", "naive", batch) == (8, 6, 48)
    assert settings("given", "exact", {}) == (8, 6, 48)
