"""Sweeps of the benchmark some jobs of which are killed, in small."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmarks import killed  # noqa: E402

pytestmark = pytest.mark.slow
TINY = (
    *(
        "data=digits",
        "model=conv_small",
        "model.width=4",
        "device=cpu",
        "figures.draw=false",
        "data.images_per_class=20",
    ),
    *("trainer.max_epochs=2", "trainer.limit_train_batches=20"),
)


def test_a_sweep_of_forks_loses_the_job_that_is_killed_and_no_other():
    outcome = killed.sweep_with_kills("fork", 4, [2], TINY)
    assert outcome.killed == outcome.lost == [2]
    wall, ended, others = killed.told("fork", 4, outcome)
    assert wall["values"] == [outcome.seconds]
    assert (ended["median"], others["median"], others["met"]) == (3, 0.0, True)
    assert others["note"].endswith("killed while training: seeds 2; without a summary: seeds 2")


def test_a_sweep_of_processes_loses_the_jobs_that_are_killed_and_no_other(monkeypatch):
    monkeypatch.setenv("FAKE", json.dumps({0: "wait", 2: "wait"}))  # at the second epoch, to be killed
    outcome = killed.sweep_with_kills("true", 4, [0, 2], ("trainer.max_epochs=3",), "tests/support/fake_train.py")
    assert outcome.killed == outcome.lost == [0, 2]


def test_what_is_lost_otherwise_is_not_taken_for_killed(monkeypatch):
    monkeypatch.setenv("FAKE", json.dumps({1: "fail at once"}))
    outcome = killed.sweep_with_kills("true", 2, [], ("trainer.max_epochs=3",), "tests/support/fake_train.py")
    assert (outcome.killed, outcome.lost) == ([], [1])
    with pytest.raises(RuntimeError, match="nosuch"):
        killed.sweep_with_kills("true", 1, [], ("nosuch=3",), "tests/support/fake_train.py")


def test_what_is_lost_beside_the_killed_is_told():
    _, ended, others = killed.told("fork", 6, killed.Outcome(1.0, killed=[1], lost=[1, 4]))
    assert (ended["median"], others["median"], others["met"]) == (4, 1.0, False)


def test_the_killed_jobs_follow_from_the_seed():
    assert killed.chosen(60, 3) == killed.chosen(60, 3)
    assert len({tuple(killed.chosen(60, 3, seed)) for seed in range(8)}) > 1
    assert len(set(killed.chosen(4, 4))) == 4
