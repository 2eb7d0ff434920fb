"""A search with Optuna over fake runs (tests/support/fake_train.py): what is tried, pruned, killed and found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from PIL import Image
from support.processes import ROOT, Cli, wait_for

from siamese.errors import ConfigError
from siamese.runs.state import state
from siamese.search.search import Search, Storage
from siamese.search.study_file import draw, read

pytestmark = pytest.mark.slow

FILE = ROOT / "conf" / "search" / "study.yaml"
SEARCH = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from siamese.commands.messages import errors_in_one_line
from siamese.search.search import Search, Storage
from siamese.search.study_file import read
with errors_in_one_line():
    search = Search(read(Path(sys.argv[1]), sys.argv[2:]), (sys.executable, "tests/support/fake_train.py"))
    search.run()
    search.report()
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of the seed of fake runs, which decides their value, and of what does not."""
    path = tmp_path / "study.yaml"
    space = {"seed": {"low": 0, "high": 9}, "optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    train = ["trainer.max_epochs=4"]
    pruning = {"after_trials": 2, "after_epochs": 1}
    content = {"name": "tiny", "directory": f"{tmp_path}/tiny", "train": train, "space": space, "pruning": pruning}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "search.py"
    path.write_text(SEARCH.format(root=str(ROOT)))
    return path


def start(script: Path, study: Path, *words: str, ways: dict[int, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(script), str(study), *words],
        cwd=ROOT,
        env={**os.environ, "FAKE": json.dumps(ways or {}), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def trials(study: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{study.parent / 'tiny' / 'study.db'}").trials


def test_a_search_that_is_killed_and_stopped_goes_on_to_its_end(study: Path, script: Path) -> None:
    slow = dict.fromkeys(range(10), "slow")
    process = start(script, study, "n_trials=4", "workers=2", ways=slow)
    wait_for(lambda: len(list(study.parent.glob("tiny/trial-*/metrics.csv"))) == 2, process)
    process.kill()
    process.communicate()
    assert [trial.state.name for trial in trials(study)] == ["RUNNING", "RUNNING"]
    tried = [trial.params for trial in trials(study)]

    process = start(script, study, "n_trials=4", "workers=2", ways=slow)
    wait_for(lambda: len(trials(study)) == 4, process)
    wait_for(lambda: [state(run).name for run in study.parent.glob("tiny/trial-*")].count("running") == 2, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr

    process = start(script, study, "n_trials=4", "sampler_seed=1", ways={})
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    states = [trial.state.name for trial in trials(study)]
    assert "RUNNING" not in states
    assert "WAITING" not in states
    finished = [trial for trial in trials(study) if trial.state.name in ("COMPLETE", "PRUNED")]
    assert len(finished) == 4
    assert [t.params for t in finished if t.params in tried] != []  # what was tried is gone on with, not lost
    folders = sorted(study.parent.glob("tiny/trial-*"))
    assert len(folders) == 4  # and in its own directory
    assert len(json.loads((folders[0] / "manifest.json").read_text())["resumes"]) >= 1
    best = max(t.value for t in finished if t.value is not None)
    assert f"{best:.4f}" in stdout
    assert "importances" in stdout
    for name in ("history", "slices", "importances"):
        assert Image.open(study.parent / "tiny" / "figures" / f"{name}.png").width > 400

    again = start(script, study, "n_trials=4")
    assert again.communicate()[0].count("trial-") >= 2  # nothing to do but to say it again
    assert len(trials(study)) == len(states)


def test_a_waiting_trial_goes_to_one_worker_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(f"sqlite:///{tmp_path / 'study.db'}")
    tries = optuna.create_study(storage=storage)
    for _ in range(4):
        tries.enqueue_trial({})
    check = Storage.check_trial_is_updatable

    def slowly(self: Storage, trial: int, state: optuna.trial.TrialState) -> None:
        check(self, trial, state)
        time.sleep(0.05)  # between looking at a trial and taking it

    monkeypatch.setattr(Storage, "check_trial_is_updatable", slowly)
    with ThreadPoolExecutor(4) as workers:
        taken = [*workers.map(lambda _: tries.ask().number, range(4))]
    assert sorted(taken) == [0, 1, 2, 3]


def test_a_trial_that_is_no_good_is_pruned_and_one_that_fails_is_not_the_end(study: Path, script: Path) -> None:
    fixed = {"seed": {"choices": [9, 8, 0, 1]}}
    content = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump(content | {"space": fixed, "sampler_seed": 12}))  # 8, 8, 9, 9, 0
    process = start(script, study, "n_trials=5", ways={0: "wait", 8: "raise"})
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    ends = {8: "FAIL", 9: "COMPLETE", 0: "PRUNED"}
    assert {trial.params["seed"] for trial in trials(study)} == set(ends)
    for trial in trials(study):
        run = study.parent / "tiny" / f"trial-{trial.number:04d}"
        found = state(run)
        assert trial.state.name == ends[trial.params["seed"]]
        if trial.state.name == "PRUNED":
            assert found.name == "interrupted"
            assert str(found.says).startswith("pruned at epoch ")
        elif trial.state.name == "FAIL":
            assert trial.user_attrs["error"] == "ValueError: the job raised"
        else:
            assert trial.value == json.loads((run / "summary.json").read_text())["val/auc"]["value"]
    assert stdout.count("pruned at epoch") == 1


def test_what_ends_the_last_trials_of_several_workers_ends_the_search(study: Path, script: Path) -> None:
    content = yaml.safe_load(study.read_text())
    study.write_text(yaml.safe_dump(content | {"metric": "val/nothing"}))
    process = start(script, study, "n_trials=2", "workers=2")
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 2, stderr
    assert stderr.startswith("error: metric=val/nothing: ")


def test_an_interrupt_of_the_last_trials_of_several_workers_is_one(study: Path, script: Path) -> None:
    process = start(script, study, "n_trials=2", "workers=2", ways=dict.fromkeys(range(10), "wait"))
    wait_for(lambda: len(list(study.parent.glob("tiny/trial-*/metrics.csv"))) == 2, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr


def test_the_space_of_the_article() -> None:
    settings = read(FILE, ["n_trials=3", "data=digits"])
    assert (settings.n_trials, settings.train) == (3, ["data=digits"])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [dict(word.split("=") for word in draw(study.ask(), settings.space)) for _ in range(200)]
    assert all(0.2 <= float(one["loss.margin"]) <= 0.6 for one in drawn)
    weights = [float(one["loss.koleo_weight"]) for one in drawn]
    assert 60 < weights.count(0.0) < 140
    assert all(weight == 0 or 1e-4 <= weight <= 1e-1 for weight in weights)
    assert 30 < sum(0 < weight < 3e-3 for weight in weights) < 75  # as many below 3e-3 as above: log
    assert {one["trainer.accumulate_grad_batches"] for one in drawn} == {"1", "2", "4"}
    assert {one["data.batch_size"] for one in drawn} == {"64", "128"}
    assert {one["optimizer"] for one in drawn} == {"adam", "rmsprop"}
    assert {one["model.embedding_dim"] for one in drawn} == {"64", "128", "256"}
    assert all(1e-4 <= float(one["optimizer.lr"]) <= 1e-2 for one in drawn)


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        ({"n_trails": 3}, [], "Key 'n_trails' not in 'Study'"),
        ({"space": {}}, [], "space is empty"),
        ({"space": {"seed": {"low": 1}}}, [], "space.seed={'low': 1}: expected low and high"),
        ({"space": {"seed": {"choices": []}}}, [], "expected low and high"),
        ({"space": {"loss.marign": {"low": 0.1, "high": 0.2}}}, [], "loss.marign"),
        ({"space": {"loss.margin": {"low": -1.0, "high": 0.2}}}, [], "loss.margin=-1.0: expected a number above 0"),
        ({}, ["n_trials=0"], "n_trials=0"),
        ({}, ["n_trials=many"], "n_trials"),
        ({}, ["seed=1"], "seed=1: the space of"),
        ({}, ["data.batch_size=0"], "data.batch_size=0: expected a whole number from 1"),
    ],
)
def test_a_study_that_is_refused(change: dict[str, Any], words: list[str], says: str, study: Path, cli: Cli) -> None:
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | change))
    done = cli("scripts/tune.py", study, *words, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert not (study.parent / "tiny").exists()


def test_a_study_of_another_space_under_the_same_name(study: Path) -> None:
    Search(read(study, []), ("false",))
    space = yaml.safe_load(study.read_text())["space"] | {"seed": {"low": 0, "high": 8}}
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"space": space}))
    with pytest.raises(ConfigError, match=r"belongs to a study with space.seed=.*'high': 9.*here it is .*'high': 8"):
        Search(read(study, []), ("false",))


@pytest.mark.parametrize("words", [[], ["n_trials=3"], ["nowhere.yaml"], [str(ROOT / "README.md")]])
def test_no_study_file(words: list[str], cli: Cli) -> None:
    done = cli("scripts/tune.py", *words, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
