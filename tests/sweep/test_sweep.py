"""Sweeps as a user runs them: what is finished stays, what failed goes on, what dies costs only itself.

Most of them run tests/support/fake_train.py, which is train.py but for torch."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.processes import ROOT, Cli, wait_for

from siamese.runs.locks import claim, release
from siamese.runs.read import read_metrics
from siamese.runs.state import State, state
from siamese.sweep.job import STOP, Job

pytestmark = pytest.mark.slow

FAKE = "tests/support/fake_train.py"
INTERRUPTED = 130


@pytest.fixture
def sweeps(tmp_path: Path) -> Path:
    """Where the sweeps of a test are (with what a shell would read as something else)."""
    return tmp_path / "it's here"


@pytest.fixture
def fake(sweeps: Path) -> Cli:
    """``fake(*words, ways={1: "raise"})``: a sweep named x of fake jobs of 3 epochs, seed 1 going wrong."""

    def run(
        *words: str, ways: dict[int, str] | None = None, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        process = start(sweeps, *words, ways=ways or {}, **environment)
        stdout, stderr = process.communicate(timeout=200)
        assert process.returncode == 0 or not check, f"{stdout}\n{stderr}"
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


def command(sweeps: Path, *words: str) -> list[str]:
    escaped = str(sweeps).replace("'", "\\'")
    usual = [f"hydra.sweep.dir='{escaped}/${{sweep.name}}'", "sweep.name=x", "trainer.max_epochs=3"]
    usual += [] if any(word.startswith("sweep.isolate=") for word in words) else ["sweep.isolate=true"]
    return [*usual, *words]


def start(sweeps: Path, *words: str, ways: dict[int, str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, FAKE, "-m", *command(sweeps, *words)],
        cwd=ROOT,
        env={**os.environ, "FAKE": json.dumps(ways), "COLUMNS": "200", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs(sweep: Path) -> dict[int, Path]:
    """The run directories of a sweep by seed."""
    found = {re.search(r"seed-(\d+)", path.name): path for path in sorted(sweep.glob("[!.]*-*"))}
    return {int(seed[1]): path for seed, path in found.items() if seed}


def states(sweep: Path) -> dict[int, str]:
    """The state of each run that has begun, by seed."""
    found = {seed: state(path).name for seed, path in runs(sweep).items()}
    return {seed: name for seed, name in found.items() if name != "new"}


def value(run: Path) -> float:
    return float(json.loads((run / "summary.json").read_text())["test/auc"]["value"])


def expected(seed: int, epochs: int = 3) -> float:
    total = float(seed)
    for epoch in range(1, epochs + 1):
        total += 1 / epoch
    return total


def at_epoch(sweep: Path, seed: int, epoch: int) -> Callable[[], bool]:
    """Whether the job of ``seed`` has come to ``epoch``."""

    def condition() -> bool:
        found = runs(sweep).get(seed)
        rows = read_metrics(found / "metrics.csv") if found else []
        return len(rows) >= epoch

    return condition


# -- what goes wrong in a job --------------------------------------------------------------------------


def test_what_goes_wrong_costs_itself_alone_and_goes_on_next_time(fake: Cli, sweeps: Path) -> None:
    ways = {1: "raise", 2: "exit", 3: "kill", 4: "hang", 5: "fail at once"}
    words = ("seed=range(7)", "sweep.timeout=4")
    done = fake(*words, ways=ways, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: 5 of 7 jobs did not complete; train.log in each directory says more\n"
    found = runs(sweeps / "x")
    assert states(sweeps / "x") == {0: "completed", 6: "completed", **dict.fromkeys(ways, "failed")}
    why = {seed: json.loads((run / "status.json").read_text())["error"] for seed, run in found.items()}
    assert why == {
        0: None,
        1: "ValueError: the job raised",
        2: "exit status 7",
        3: "killed by SIGKILL (signal 9); often for want of memory",
        4: "stopped after sweep.timeout=4 seconds",
        5: "seed 5 fails at once",
        6: None,
    }
    assert 'raise ValueError("the job raised")' in (found[1] / "train.log").read_text()
    assert "seed 5 fails at once" in (found[5] / "train.log").read_text()
    for seed, reason in why.items():  # the table at the end, and a line for each before it
        lines = [line for line in done.stdout.splitlines() if line.split()[:1] == [str(seed)]]
        assert len(lines) == 1, done.stdout
        assert lines[0].split()[1] == ("failed" if reason else "completed")
        assert (reason or f"{value(found[seed]):.4f}") in lines[0]
        assert f"seed={seed}  " in done.stdout
    assert "left, about" in done.stdout
    assert str(sweeps / "x") in done.stdout

    finished = {run: sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) for run in (found[0], found[6])}
    none = fake(*words, "sweep.rerun=none", check=False)
    assert none.returncode == 1
    assert states(sweeps / "x") == {0: "completed", 6: "completed", **dict.fromkeys(ways, "failed")}
    again = fake(*words, ways=ways, check=False)
    assert again.returncode == 1, again.stderr
    assert states(sweeps / "x") == {**dict.fromkeys(range(7), "completed"), 5: "failed"}
    assert "finished before: seed=0" in again.stdout
    for seed in (1, 2, 3, 4, 6):
        assert value(found[seed]) == expected(seed)
        assert [row["epoch"] for row in read_metrics(found[seed] / "metrics.csv")] == ["1", "2", "3"]
    assert len(json.loads((found[3] / "manifest.json").read_text())["resumes"]) == 1
    assert finished == {run: sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) for run in finished}


def test_what_goes_wrong_in_a_fork_costs_itself_alone(fake: Cli, sweeps: Path) -> None:
    ways = {1: "raise", 2: "exit", 3: "kill", 4: "hang"}
    done = fake("seed=range(6)", "sweep.timeout=4", "sweep.isolate=fork", ways=ways, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert states(sweeps / "x") == {0: "completed", 5: "completed", **dict.fromkeys(ways, "failed")}
    found = runs(sweeps / "x")
    why = {seed: json.loads((run / "status.json").read_text())["error"] for seed, run in found.items()}
    assert why[1] == "ValueError: the job raised"
    assert 'raise ValueError("the job raised")' in (found[1] / "train.log").read_text()
    assert why[2] == "exit status 7"
    assert why[3] == "killed by SIGKILL (signal 9); often for want of memory"
    assert why[4] == "stopped after sweep.timeout=4 seconds"
    assert {seed: value(found[seed]) for seed in (0, 5)} == {0: expected(0), 5: expected(5)}


def test_a_fork_saves_when_what_it_was_forked_from_is_killed(fake: Cli, sweeps: Path) -> None:
    done = fake("seed=0,1", "sweep.isolate=fork", ways={0: "orphan"}, check=False)
    assert done.returncode == 1
    assert states(sweeps / "x") == {0: "interrupted", 1: "completed"}  # the other of a new one
    assert fake("seed=0,1", "sweep.isolate=true").returncode == 0
    assert value(runs(sweeps / "x")[0]) == expected(0)


def test_fail_fast_stops_the_others(fake: Cli, sweeps: Path) -> None:
    words = ("seed=1,0,2", "sweep.fail_fast=true", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = fake(*words, "trainer.max_epochs=40", ways={0: "slow", 1: "raise"}, check=False)
    assert done.returncode == 1
    assert "3 of 3 jobs did not complete (sweep.fail_fast: seed-1" in done.stderr
    assert states(sweeps / "x") == {0: "interrupted", 1: "failed"}
    assert fake("seed=1,0,2", "trainer.max_epochs=40").returncode == 0
    assert value(runs(sweeps / "x")[0]) == expected(0, 40)


def test_all_of_it_again_sets_the_earlier_runs_aside(fake: Cli, sweeps: Path) -> None:
    fake("seed=0")
    before = {
        seed: json.loads((run / "manifest.json").read_text())["run_id"] for seed, run in runs(sweeps / "x").items()
    }
    fake("seed=0", "sweep.rerun=all")
    after = {
        seed: json.loads((run / "manifest.json").read_text())["run_id"] for seed, run in runs(sweeps / "x").items()
    }
    kept = {json.loads(path.read_text())["run_id"] for path in (sweeps / "x" / ".replaced").glob("*/manifest.json")}
    assert not set(before.values()) & set(after.values())
    assert kept == set(before.values())


# -- what happens to the sweep -------------------------------------------------------------------------


@pytest.mark.parametrize("isolate", ["true", "fork"])
def test_ctrl_c_saves_and_the_same_command_goes_on(isolate: str, fake: Cli, sweeps: Path) -> None:
    process = start(sweeps, "seed=0,1", f"sweep.isolate={isolate}", ways={0: "wait"})  # until it is told to
    wait_for(at_epoch(sweeps / "x", 0, 1), process)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, stderr
    assert "Traceback" not in stderr
    assert stderr == "interrupted; the same command goes on\n"
    assert states(sweeps / "x") == {0: "interrupted"}, stdout
    fake("seed=0,1")
    assert {seed: value(run) for seed, run in runs(sweeps / "x").items()} == {0: expected(0), 1: expected(1)}


@pytest.mark.parametrize("isolate", ["true", "fork"])
def test_a_second_ctrl_c_does_not_wait(isolate: str, sweeps: Path) -> None:
    process = start(sweeps, "seed=0", f"sweep.isolate={isolate}", ways={0: "hang"})
    wait_for(lambda: states(sweeps / "x").get(0) == "running", process)
    process.send_signal(signal.SIGINT)
    wait_for((sweeps / "x" / STOP).exists, process)  # the first was heard
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED
    assert "Traceback" not in stderr
    assert states(sweeps / "x") == {0: "killed"}  # deaf as it was


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a job goes on without its parent, and is refused")
@pytest.mark.parametrize("isolate", ["true", "fork"])
def test_a_killed_sweep_takes_its_jobs_with_it(isolate: str, fake: Cli, sweeps: Path) -> None:
    process = start(sweeps, "seed=0,1", f"sweep.isolate={isolate}", ways={0: "slow"})
    wait_for(at_epoch(sweeps / "x", 0, 1), process)
    process.kill()
    process.communicate()
    done = fake("seed=0,1")  # at once: it waits for the job that is still saving
    assert "[2/2]" in done.stdout
    found = runs(sweeps / "x")
    assert {seed: value(run) for seed, run in found.items()} == {0: expected(0), 1: expected(1)}
    assert len(json.loads((found[0] / "manifest.json").read_text())["resumes"]) == 1


def test_a_directory_that_is_held_is_left_alone_and_its_holder_named(
    fake: Cli, sweeps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("seed=0,1", ways={1: "raise"}, check=False)
    run = runs(sweeps / "x")[1]
    claim(run)
    try:
        refused(fake("seed=0,1", "sweep.rerun=all", check=False), run, f"in use by process {os.getpid()}")
        monkeypatch.setattr("siamese.sweep.job.PATIENCE", 0.1)
        before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
        Job(command=("false",), words={run.name: ("seed=1",)}, cwd=".")._run(run)
        assert state(run) == State("running", f"process {os.getpid()} on {socket.gethostname()}", 0.5)
        assert sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*")) == before
    finally:
        release(run)


# -- what is refused -----------------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str], *says: object) -> None:
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in says:
        assert str(part) in done.stderr


def test_two_sweeps_at_once_in_one_directory(fake: Cli, sweeps: Path) -> None:
    claim(sweeps / "x")
    try:
        refused(fake("seed=0", check=False), sweeps / "x", f"process {os.getpid()} on", "sweep.name")
    finally:
        release(sweeps / "x")
    assert not runs(sweeps / "x")


def test_a_directory_of_another_sweep(fake: Cli, sweeps: Path) -> None:
    fake("seed=0,1")
    other = fake("seed=0,1", "data.batch_size=32", check=False)
    refused(other, sweeps / "x", "belongs to a sweep with data.batch_size=64, here it is 32", "sweep.name")
    assert len(runs(sweeps / "x")) == 2
    fake("seed=2")  # more of the same
    assert "finished before" in fake("seed=0", "data.root=elsewhere").stdout  # no science
    assert set(states(sweeps / "x")) == {0, 1, 2}
    assert len(list((sweeps / "x").glob("*-*"))) == 3  # whatever a command varies, a job is where it was
    recorded = json.loads((sweeps / "x" / "sweep.json").read_text())
    assert set(recorded["jobs"]) == {run.name for run in runs(sweeps / "x").values()}
    assert "seed" in recorded["varied"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("seed=0,-1", "seed=-1: expected a number from 0 to 4294967295 (in the job seed=-1)"),
        ("seed=0,1 sweep.rerun=some", "sweep.rerun=some: expected one of failed, all, none"),
        ("seed=0,1 sweep.timeout=0", "sweep.timeout=0.0: expected a number above 0"),
        ("seed=0,1 sweep.timeout=9 sweep.isolate=false", "sweep.timeout=9.0: a job in the sweep's own process"),
        ("seed=0,1 device=cpu_ddp sweep.isolate=false", "device.devices=2: the processes of a run start its command"),
        ("seed=0,1 sweep.name=../x", "sweep.name=../x: expected the name of a folder"),
        ("seed=0,1 resume=outputs/x", "resume=outputs/x: a sweep goes on with its own jobs"),
        ("seed=0,1 sweep=koleo", "sweep=koleo: no such option"),
        ("seed=0,1 hydra/launcher=rray", "hydra/launcher=rray: no such option"),
    ],
)
def test_a_sweep_that_is_refused_begins_nothing(words: str, says: str, fake: Cli, sweeps: Path) -> None:
    refused(fake(*words.split(), check=False), says)
    assert not sweeps.exists()


@pytest.mark.parametrize(
    ("launcher", "package"),
    [
        ("joblib", "hydra-joblib-launcher"),
        ("submitit_slurm", "hydra-submitit-launcher"),
        ("ray", "ray"),
    ],
)
def test_a_launcher_that_is_not_installed(launcher: str, package: str, fake: Cli, tmp_path: Path) -> None:
    absent = tmp_path / "absent"  # where a package of that name is found first, and cannot be imported
    for module in ("hydra_plugins/hydra_joblib_launcher", "hydra_plugins/hydra_submitit_launcher", "ray"):
        (absent / module).mkdir(parents=True)
        (absent / module / "__init__.py").write_text("raise ImportError('not installed')")
    done = fake(f"hydra/launcher={launcher}", "seed=0", check=False, PYTHONPATH=str(absent), PYTHONWARNINGS="ignore")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: hydra/launcher={launcher}: ")
    assert done.stderr.endswith(f"not installed; pip install {package}\n")


# -- the launchers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_a_launcher_loses_nothing_but_what_died(launcher: str, fake: Cli, sweeps: Path) -> None:
    words = (f"hydra/launcher={launcher}", "seed=range(4)")
    ways = {1: "raise", 2: "kill", 3: {"ray": "orphan", "submitit_local": "requeue"}.get(launcher, "")}
    done = fake(*words, ways=ways, check=False)
    assert done.returncode == 1, done.stderr
    assert states(sweeps / "x") == {0: "completed", 1: "failed", 2: "failed", 3: "completed"}, done.stdout
    found = runs(sweeps / "x")
    assert value(found[3]) == expected(3)
    resumed = len(json.loads((found[3] / "manifest.json").read_text())["resumes"])
    assert resumed == (launcher != "joblib")  # Ray tries again, submitit requeues: from where it was
    assert fake("seed=range(4)").returncode == 0  # whichever launcher goes on
    assert {seed: value(run) for seed, run in found.items()} == {seed: expected(seed) for seed in range(4)}


SBATCH = """#!/bin/sh
cp "$1" "$SLURM_RECORD/script.sh"
(for task in 0 1; do
  SLURM_JOB_ID=4$task SLURM_ARRAY_JOB_ID=4 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 sh "$SLURM_RECORD/script.sh"
done) > "$SLURM_RECORD/log" 2>&1 &
echo Submitted batch job 4
"""
SRUN = """#!/bin/sh
while [ $# -gt 0 ]; do case "$1" in --output|--error) shift 2;; -*) shift;; *) break;; esac; done
exec "$@"
"""
SACCT = """#!/bin/sh
printf 'JobID|State|NodeList\\n4_0|RUNNING|here\\n4_1|RUNNING|here\\n'
"""


def test_slurm_is_asked_for_what_the_command_says(fake: Cli, sweeps: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    own = ("partition=gpu", "gpus_per_node=1", "cpus_per_task=4", "mem_gb=16", "timeout_min=240", "max_num_timeout=3")
    fake(
        "hydra/launcher=submitit_slurm",
        *(f"hydra.launcher.{one}" for one in own),
        "seed=0,1",
        PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        SLURM_RECORD=str(tmp_path),
    )
    script = (tmp_path / "script.sh").read_text()
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    assert {"array=0-1%2", "partition=gpu", "gpus-per-node=1", "cpus-per-task=4", "mem=16GB", "time=240"} <= asked
    assert "signal=USR2@120" in asked
    folder = next(line for line in asked if line.startswith("output="))
    assert str(tmp_path.resolve()) in folder.replace("'\"'\"'", "'")  # no relative path reaches another machine
    assert states(sweeps / "x") == {0: "completed", 1: "completed"}


# -- train.py itself -----------------------------------------------------------------------------------

DIGITS = (
    "data=digits data.images_per_class=30 model=conv_small model.width=4 device=cpu loss=triplet_koleo "
    "data.batch_size=13 callbacks.checkpoint_every_steps=2 seed=0,1"
).split()


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    loaded = torch.load(run / "checkpoints" / "last.ckpt", map_location="cpu", weights_only=True)
    return {str(key): tensor for key, tensor in loaded["state_dict"].items()}


def test_a_killed_sweep_ends_bit_for_bit_as_one_that_was_not(train_cli: Cli, tmp_path: Path) -> None:
    words = [*DIGITS, "trainer.max_epochs=3", "figures.draw=false", f"hydra.sweep.dir={tmp_path}/${{sweep.name}}"]
    train_cli("-m", *words, "sweep.name=here", "sweep.isolate=false")  # one process for both
    own = [sys.executable, "train.py", "-m", *words, "sweep.name=killed"]
    process = subprocess.Popen(own, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(at_epoch(tmp_path / "killed", 1, 1), process)
    process.kill()
    process.communicate()
    first = runs(tmp_path / "killed")[0]
    untouched = [path.stat().st_mtime_ns for path in sorted(first.rglob("*"))]
    train_cli("-m", *words, "sweep.name=killed")
    assert [path.stat().st_mtime_ns for path in sorted(first.rglob("*"))] == untouched
    assert len(json.loads((runs(tmp_path / "killed")[1] / "manifest.json").read_text())["resumes"]) == 1
    for seed in (0, 1):
        run, reference = runs(tmp_path / "killed")[seed], runs(tmp_path / "here")[seed]
        assert rows(run) == rows(reference)
        assert (run / "summary.json").read_text() == (reference / "summary.json").read_text()
        a, b = weights(run), weights(reference)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert rows(runs(tmp_path / "here")[0]) != rows(runs(tmp_path / "here")[1])

    shutil.rmtree(tmp_path / "here")
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", *own[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in imported.stderr.splitlines()}
    assert {"hydra", "siamese"} <= modules
    assert not {"torch", "torchvision", "pytorch_lightning", "matplotlib", "sklearn"} & modules


def test_in_one_process_a_job_that_fails_costs_only_itself(train_cli: Cli, tmp_path: Path) -> None:
    where = f"hydra.sweep.dir={tmp_path}/x"
    wrong = "optimizer.lr=1e300,1e-3"
    words = [*DIGITS[:-1], wrong, "seed=0", "optimizer=sgd", "trainer.max_epochs=1", "sweep.isolate=false", where]
    words.append("figures.draw=false")
    done = train_cli("-m", *words, check=False)
    assert done.returncode == 1
    assert "1 of 2 jobs did not complete" in done.stderr
    found = {state(path).name: path for path in (tmp_path / "x").glob("lr-*")}
    assert set(found) == {"completed", "failed"}
    assert "NaN or infinite" in str(state(found["failed"]).says)
    assert "NaN or infinite" in (found["failed"] / "train.log").read_text()
    assert "NaN or infinite" not in (found["completed"] / "train.log").read_text()
