"""Several machines are one batch: two nodes of two processes each, over loopback, in float64."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.accumulating import assert_close
from support.forkserver import ForkServer
from support.processes import ROOT, Cli

from siamese.training.roles import Launched, launched

pytestmark = pytest.mark.slow

WORDS = (
    "data=digits data.images_per_class=12 data.val_fraction=0.3 model=conv_small model.embedding_dim=6 "
    "loss=triplet_koleo loss.koleo_weight=0.5 device.precision=64-true optimizer=sgd optimizer.lr=0.1 "
    "accumulation=exact trainer.accumulate_grad_batches=2 trainer.max_epochs=2 figures.draw=false name=run "
    "model._target_=support.accumulating.plain_net"
).split()
TESTS = {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
NODES = ("device=cpu_ddp", "device.num_nodes=2", "data.batch_size=2")
ONE_EACH = (*NODES, "device.devices=1")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def torchrun(ranks: int, each: int) -> list[dict[str, str]]:
    """What torchrun says to each process of machines with so many each."""
    shared = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": f"{ranks}", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": f"{free_port()}"}
    return [
        shared | {"RANK": f"{rank}", "LOCAL_RANK": f"{rank % each}", "GROUP_RANK": f"{rank // each}"}
        for rank in range(ranks)
    ]


def srun(ranks: int) -> list[dict[str, str]]:
    """What srun says to each process, one a machine."""
    shared = {"SLURM_NTASKS": f"{ranks}", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1", "MASTER_ADDR": "127.0.0.1"}
    shared |= {
        "MASTER_PORT": f"{free_port()}",
        "SLURM_NNODES": f"{ranks}",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_STEP_ID": "0",
    }
    return [
        shared | {"SLURM_PROCID": f"{rank}", "SLURM_NODEID": f"{rank}", "SLURM_LOCALID": "0"} for rank in range(ranks)
    ]


def start(server: ForkServer, where: Path, by_rank: list[dict[str, str]], *words: str, **more: Any) -> tuple[int, str]:
    """The largest exit status of all ranks, and what they said."""
    out = where.with_suffix(".out")
    whole = {**os.environ, **TESTS, "COLUMNS": "200"} | more.pop("environment", {})
    status = server.run("train.py", *words, stdout=out, stderr=out, environment=whole, by_rank=by_rank, **more)
    return status, out.read_text()


def rows(run: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in csv.DictReader((run / "metrics.csv").open())
    ]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def status(run: Path) -> dict[str, Any]:
    return json.loads((run / "status.json").read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that torchrun has started on two nodes of two."""
    run, port = tmp_path_factory.mktemp("nodes") / "whole", free_port()
    line = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2"]
    line += ["--master-addr=127.0.0.1", f"--master-port={port}"]
    nodes = [
        subprocess.Popen(
            [*line, f"--node-rank={node}", "train.py", *NODES, *WORDS, f"hydra.run.dir={run}"],
            cwd=ROOT,
            env={**os.environ, **TESTS},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node in range(2)
    ]
    said = [node.communicate(timeout=200) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert said[0][0].count("2 triplets × window 2 × 4 devices = 16 triplets a step; KoLeo sees 48 embeddings") == 1
    assert said[1][0] == ""
    return run


def test_two_nodes_are_one_process_with_the_whole_batch(whole: Path, train_cli: Cli, tmp_path: Path) -> None:
    one = tmp_path / "one"
    train_cli("device=cpu", "data.batch_size=8", *WORDS, f"hydra.run.dir={one}", **TESTS)
    assert_close(weights(whole), weights(one), 1e-10)
    for found, expected in zip(rows(whole), rows(one), strict=True):
        assert found["train/embeddings"] == expected["train/embeddings"]
        assert float(found["val/loss"]) == pytest.approx(float(expected["val/loss"]), rel=1e-9)
    device = json.loads((whole / "manifest.json").read_text())["device"]
    assert (device["devices"], device["nodes"]) == (4, 2)
    assert (whole / "train.log").read_text().count("epoch 2/2") == 1
    assert status(whole)["state"] == "completed"


def test_a_signal_to_one_stops_all_and_the_run_goes_on_bit_for_bit(
    whole: Path, server: ForkServer, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    stop = {"place": "after a micro-batch", "nth": 7, "signal": signal.SIGTERM, "rank": 3}
    code, said = start(server, run, torchrun(4, 2), *NODES, *WORDS, f"hydra.run.dir={run}", **stop)
    assert code == 143, said
    assert status(run)["state"] == "interrupted"
    assert len(rows(run)) < len(rows(whole))
    code, said = start(server, run, torchrun(4, 2), f"resume={run}", "trust=support.accumulating")
    assert code == 0, said
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(run).items())
    assert rows(run) == rows(whole)


def test_a_process_that_dies_ends_all_and_is_named(server: ForkServer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    die = {"place": "after a micro-batch", "nth": 3, "signal": signal.SIGKILL, "rank": 3}
    code, said = start(server, run, torchrun(4, 2), *NODES, *WORDS, f"hydra.run.dir={run}", **die)
    assert code == 1, said
    assert status(run)["state"] == "failed"
    assert status(run)["error"].startswith("a process was lost while training: rank 3 (process ")
    lines = [line for line in said.splitlines() if "error" in line]
    assert len(lines) == 3
    assert f"error: {status(run)['error']}" in lines
    assert not any("2 processes" in line for line in lines)
    assert "Traceback" not in said


def test_a_process_that_never_comes_is_waited_for_so_long(server: ForkServer, tmp_path: Path) -> None:
    run = tmp_path / "run"
    alone = torchrun(2, 1)[:1]
    code, said = start(server, run, alone, *ONE_EACH, *WORDS, "device.timeout=1", f"hydra.run.dir={run}")
    assert code == 1, said
    (line,) = said.splitlines()
    assert line.startswith("error: device.timeout=1: the 2 processes of torchrun were not all here within so many sec")
    assert status(run)["error"] == line.removeprefix("error: ")


def test_gradients_are_reduced_once_a_step_whatever_the_window(server: ForkServer, tmp_path: Path) -> None:
    """Under srun, two ranks: 12 reductions for 12 steps of 4 micro-batches."""
    run, counted = tmp_path / "run", tmp_path / "counted"
    words = ("trainer.accumulate_grad_batches=4", "trainer.limit_train_batches=24", "data.batch_size=1")
    own = "+callbacks.extra.x._target_=support.accumulating.CountedReductions"
    every = [*ONE_EACH, *WORDS, *words, own, f"hydra.run.dir={run}"]
    code, said = start(server, run, srun(2), *every, environment={"COUNTED": str(counted)})
    assert code == 0, said
    assert [Path(f"{counted}.{rank}").read_text() for rank in range(2)] == ["12 12 2 4"] * 2


@pytest.mark.parametrize(
    ("words", "launch", "says"),
    [
        (NODES, False, "device.num_nodes=2: expected to be started on every machine by torchrun (torchrun --nnodes=2"),
        (NODES, True, "device.devices=2 device.num_nodes=2: expected 4 processes, found 2 started by torchrun"),
        (
            (*ONE_EACH, "data.batch_size=auto", "data.effective_batch_size=8"),
            True,
            "data.batch_size=auto: under torchrun no process searches for all; expected a number",
        ),
    ],
)
def test_what_does_not_go_with_the_machines_is_refused(
    words: tuple[str, ...], launch: bool, says: str, train_cli: Cli, tmp_path: Path
) -> None:
    by = torchrun(2, 1)[0] if launch else {}
    others = [word for word in WORDS if "accumulate_grad_batches" not in word]
    done = train_cli(*others, *words, f"hydra.run.dir={tmp_path / 'run'}", check=False, **TESTS, **by)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert says in line


def test_a_folder_named_by_the_clock_is_refused(train_cli: Cli) -> None:
    done = train_cli(*WORDS, *ONE_EACH, check=False, **TESTS, **torchrun(2, 1)[1])
    assert done.returncode == 2
    assert done.stderr.startswith("error: hydra.run.dir: the 2 processes of torchrun have one folder between them; ")


def test_a_sweep_in_every_process_is_refused(train_cli: Cli) -> None:
    done = train_cli("-m", "seed=0,1", *WORDS, *ONE_EACH, check=False, **TESTS, **torchrun(2, 1)[0])
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: hydra.mode=MULTIRUN: each of the 2 processes of torchrun would run the sweep;"
    )


def test_what_has_started_a_process_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(environment: dict[str, str]) -> Launched | None:
        with monkeypatch.context() as patch:
            for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "SLURM_STEP_ID", "SLURM_JOB_NAME"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            return launched.__wrapped__()

    assert found({}) is None
    assert found(torchrun(4, 2)[3]) == Launched("torchrun", 3, 4)
    assert found(srun(2)[1]) == Launched("srun", 1, 2)
    assert found(srun(2)[1] | {"SLURM_JOB_NAME": "bash"}) is None
    assert found(srun(1)[0]) is None
    assert found({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}) is None  # of a batch script, which has no step
