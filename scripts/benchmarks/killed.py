"""Sweeps some jobs of which are killed while they train: how long they take, and what is lost with those."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import ROOT
from benchmarks.setup import Setup
from benchmarks.timing import result
from siamese.data.draws import generator
from siamese.errors import RunError
from siamese.runs.read import read_metrics, read_status

JOBS, KILLED, POLL = 60, 3, 0.05
WORDS = ("experiment=quickstart", "trainer.max_epochs=3", "figures.draw=false")
WAYS = {"true": "started anew", "fork": "forked"}  # of sweep.isolate


@dataclass(frozen=True)
class Outcome:
    """What became of a sweep: its ``seconds``; the jobs, by their seeds, that were ``killed`` while they trained, and
    those that left no summary, ``lost``."""

    seconds: float
    killed: list[int]
    lost: list[int]


def killed(setup: Setup) -> list[dict[str, Any]]:
    """A sweep each way, one turn, with the same jobs killed."""
    doomed = chosen(JOBS, KILLED)
    return [one for isolate in WAYS for one in told(isolate, JOBS, sweep_with_kills(isolate, JOBS, doomed))]


def chosen(jobs: int, count: int, seed: int = 0) -> list[int]:
    """``count`` of the numbers below ``jobs``, drawn from ``seed``, sorted."""
    return sorted(generator(seed, "killed jobs").choice(jobs, count, replace=False).tolist())


def told(isolate: str, jobs: int, outcome: Outcome) -> list[dict[str, Any]]:
    """``outcome`` of a sweep of so many jobs as results."""
    sweep = f"a sweep of {jobs} jobs with {len(outcome.killed)} killed, {WAYS[isolate]}"
    others = float(len({*outcome.lost} - {*outcome.killed}))
    seeds = [", ".join(map(str, found)) or "none" for found in (outcome.killed, outcome.lost)]
    note = f"{sweep}: killed while training: seeds {seeds[0]}; without a summary: seeds {seeds[1]}"
    return [
        result(f"wall time of {sweep}", "s", [outcome.seconds], "<", None),
        result(f"jobs with a summary, of {sweep}", "jobs", [float(jobs - len(outcome.lost))], "≥", None),
        result("lost of those that were not killed", "jobs", [others], "≤", 0.0) | {"note": note},
    ]


def sweep_with_kills(
    isolate: str, jobs: int, doomed: Sequence[int], words: Sequence[str] = WORDS, script: str = "train.py"
) -> Outcome:
    """Run a sweep of the seeds below ``jobs`` under ``sweep.isolate=``, and kill each of ``doomed`` (SIGKILL) when it
    has begun to train.

    Raises:
        RuntimeError: when the sweep says otherwise of what was lost, or no job has come to a summary.
    """
    with tempfile.TemporaryDirectory() as folder:
        sweep = Path(folder) / "sweep"
        sweeps = ("-m", *words, f"seed=range({jobs})", f"sweep.isolate={isolate}", f"hydra.sweep.dir={sweep}")
        command = [sys.executable, script, *sweeps]
        began, hit = time.perf_counter(), list[int]()
        with open(Path(folder) / "said", "w+") as said:
            process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=said)
            while process.poll() is None:
                hit += [seed for seed in doomed if seed not in hit and _kill(_job(sweep, seed))]
                time.sleep(POLL)
            seconds = time.perf_counter() - began
            found = {seed: _job(sweep, seed) for seed in range(jobs)}
            lost = [seed for seed, job in found.items() if job is None or not (job / "summary.json").exists()]
            said.seek(0)
            if process.returncode != bool(lost) or len(lost) == jobs:  # 1 says that not all jobs completed
                raise RuntimeError(f"exit status {process.returncode}: {said.read()}")
        return Outcome(seconds, sorted(hit), lost)


def _job(sweep: Path, seed: int) -> Path | None:
    """The directory of the job of ``seed``, once it is there."""
    return next((path for path in sweep.glob("[!.]*") if re.search(rf"seed-{seed}(?!\d)", path.name)), None)


def _kill(job: Path | None) -> bool:
    """Kill ``job`` if it trains: it says that it runs, and epoch 0, the validation before training, is behind it."""
    if job is None:
        return False
    with suppress(RunError, ProcessLookupError):  # it has not begun, or has just ended
        status = read_status(job)
        if status["state"] == "running" and read_metrics(job / "metrics.csv"):
            os.kill(status["pid"], signal.SIGKILL)
            return True
    return False
