"""Damaged run directories as a user meets them: what each command says, and that what it goes on with is right."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.damage import OTHER, copy, damage, edit, replace, rewrite, train_two
from support.processes import Cli

LONGER = "trainer.max_epochs=3"
LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"


@pytest.fixture(scope="session")
def trained(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two(train_cli, tmp_path_factory)


@pytest.fixture(scope="session")
def longer(trained: Path, train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with one more epoch, and nothing damaged."""
    run = copy(trained, tmp_path_factory.mktemp("longer") / "run")
    train_cli(f"resume={run}", LONGER)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return copy(trained, tmp_path / "run")


def digests(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def summary(run: Path) -> dict[str, Any]:
    found = json.loads((run / "summary.json").read_text())
    assert isinstance(found, dict)
    return found


def assert_same(run: Path, other: Path) -> None:
    """The two runs have learnt and measured the same."""
    assert rows(run) == rows(other)
    assert summary(run) == summary(other)
    for name in (LAST, BEST):
        weights, expected = (torch.load(path / name, weights_only=True)["state_dict"] for path in (run, other))
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[key], expected[key]) for key in weights)
    assert {path.name for path in (run / "arrays").iterdir()} == {path.name for path in (other / "arrays").iterdir()}
    for path in (run / "arrays").iterdir():
        with np.load(path) as arrays, np.load(other / "arrays" / path.name) as wanted:
            assert {*arrays} == {*wanted}
            for key in wanted:
                np.testing.assert_array_equal(arrays[key], wanted[key])


def assert_refused(train_cli: Cli, run: Path, *says: str) -> None:
    before = digests(run)
    done = train_cli(f"resume={run}", LONGER, check=False)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line] == [done.stderr.strip()]
    assert done.stderr.startswith(f"error: resume={run}: ")
    assert [words for words in says if words not in done.stderr] == []
    assert digests(run) == before


def test_what_is_damaged_is_made_whole_and_the_run_ends_the_same(
    run: Path, longer: Path, trained: Path, train_cli: Cli
) -> None:
    (run / "status.json").unlink()
    (run / "arrays" / "samples.npz").unlink()
    damage(run / "metrics.csv", OTHER, trained.parent / OTHER / "metrics.csv")
    damage(run / BEST, "torn", run / BEST)
    for path in (run / "arrays").glob("roc_*"):
        damage(path, "empty", path)
    done = train_cli(f"resume={run}", LONGER)
    told, _, trained_then = done.stdout.partition("epoch 3/3")
    assert f"{run / 'metrics.csv'}: not the rows of this run; it is now metrics.csv.damaged; made again" in told
    assert f"{run / BEST}: made again from " in told
    assert trained_then
    assert_same(run, longer)


def test_the_best_from_here_on_counts_where_the_best_is_gone(run: Path, train_cli: Cli) -> None:
    def older_is_best(checkpoint: dict[str, Any]) -> None:
        checkpoint["callbacks"]["Checkpoints"].update(best={"value": 2.0, "epoch": 1}, also=[])

    edit(run / LAST, older_is_best)
    for path in (run / BEST, *run.glob("checkpoints/epoch-*.ckpt")):
        path.unlink()
    done = train_cli(f"resume={run}", LONGER)
    said = f"{run / BEST}: missing, so that the weights of the best epoch, 1, are gone; the best from epoch 3 on counts"
    assert done.stdout.partition("epoch 3/3")[0].count(said) == 1
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert summary(run)["val/auc"]["epoch"] == 3
    best = torch.load(run / BEST, weights_only=True)["callbacks"]["Checkpoints"]["best"]
    assert best == {"value": summary(run)["val/auc"]["value"], "epoch": 3, "since": 3}


def test_the_last_is_taken_where_the_best_is_gone_and_nothing_is_left_to_train(run: Path, train_cli: Cli) -> None:
    rewrite(run / "status.json", "state", "interrupted")
    edit(run / LAST, lambda c: c["callbacks"]["Checkpoints"].update(best={"value": 2.0, "epoch": 1}, also=[]))
    for path in (run / BEST, *run.glob("checkpoints/epoch-*.ckpt")):
        path.unlink()
    done = train_cli(f"resume={run}")
    assert "no epoch is left to train; last.ckpt is taken for it" in done.stdout
    assert summary(run)["test/auc"]["epoch"] == 2


def test_rows_that_an_earlier_version_has_lost_are_said_to_be(run: Path, longer: Path, train_cli: Cli) -> None:
    for path in run.glob("checkpoints/*.ckpt"):
        edit(path, lambda checkpoint: checkpoint.pop("run"))
    (run / "metrics.csv").unlink()
    done = train_cli(f"resume={run}", LONGER)
    said = f"{run / 'metrics.csv'}: the rows of epochs 0 to 2 are gone, for last.ckpt is of an earlier version"
    assert said in done.stdout.partition("epoch 3/3")[0]
    assert rows(run) == rows(longer)[3:]
    assert summary(run) == summary(longer)


def test_a_checkpoint_of_another_run_is_refused(run: Path, trained: Path, train_cli: Cli) -> None:
    damage(run / LAST, OTHER, trained.parent / OTHER / LAST)
    assert_refused(train_cli, run, f"{run / LAST}: is a checkpoint of another run")


@pytest.mark.parametrize("file", ["manifest.json", "config.resolved.yaml"])
def test_what_cannot_be_made_again_is_named(run: Path, train_cli: Cli, file: str) -> None:
    (run / file).unlink()
    assert_refused(train_cli, run, f"{run / file}: not found")


def test_evaluate_needs_no_status(run: Path, trained: Path, cli: Cli) -> None:
    (run / "status.json").unlink()
    done = cli("scripts/evaluate.py", run)
    assert "the run is in an unknown state, not completed" in done.stdout
    assert summary(run) == summary(trained)


@pytest.mark.parametrize("words", [[], ["--table"], ["--split", "test"]])
def test_evaluate_names_a_damaged_summary(run: Path, cli: Cli, words: list[str]) -> None:
    damage(run / "summary.json", "torn", run / "summary.json")
    before = digests(run)
    done = cli("scripts/evaluate.py", run, *words, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {run / 'summary.json'}: could not be read as JSON")
    assert done.stderr.count("\n") == 1
    assert digests(run) == before


def test_the_summary_is_written_though_other_arrays_are_damaged(run: Path, trained: Path, cli: Cli) -> None:
    replace(run / "arrays" / "samples.npz", b"half")
    config = run / "config.resolved.yaml"
    replace(config, config.read_bytes().replace(b"draw: false", b"draw: true"))
    (run / "summary.json").unlink()
    done = cli("scripts/evaluate.py", run)
    assert f"figures: samples could not be drawn ({run / 'arrays' / 'samples.npz'}: could not be read" in done.stdout
    assert summary(run)["test/auc"] == summary(trained)["test/auc"]


def test_compare_goes_on_without_a_damaged_run(run: Path, trained: Path, cli: Cli, tmp_path: Path) -> None:
    damage(run / "config.resolved.yaml", "nested blocks", run / "config.resolved.yaml")
    done = cli("scripts/compare.py", run, trained, trained.parent / OTHER, "--out", tmp_path / "out")
    assert "run: config.resolved.yaml: could not be read as YAML (nested more than 50 deep)" in done.stdout
    assert (tmp_path / "out" / "report.html").exists()
