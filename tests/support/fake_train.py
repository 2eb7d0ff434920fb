"""train.py without torch, for what sweeps do with their jobs: its run directories, statuses, signals
and exits are real, its training is a sum.

``FAKE`` in the environment says, as JSON, how the job of a seed goes (``{"1": "raise"}``): raise, exit,
kill (itself, with SIGKILL), orphan (kill what started it), requeue (tell that its time is nearly over),
hang (deaf to signals), fail at once, slow, or wait (at its second epoch, to be told to stop). One that was
gone on with does not misbehave again.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

os.environ["HYDRA_FULL_ERROR"] = "1"

import siamese.commands.train  # noqa: F401 (registers what conf/train.yaml reads)
from siamese.commands.guard import Guard
from siamese.commands.messages import errors_in_one_line
from siamese.config.validate import validate
from siamese.errors import Interrupted, RunError
from siamese.paths import CONF
from siamese.runs.directory import RunDirectory
from siamese.sweep import forked
from siamese.training.check import job_config

# What its jobs are forked from does not import torch either.
served = "from siamese.sweep.warm import serve; serve("
assert served in forked.CODE
lighter = "from siamese.sweep import warm; warm.IMPORTED = warm.IMPORTED[:1]; warm.serve("
forked.CODE = forked.CODE.replace(served, lighter)

Guard.on_run_start = lambda self, config, **kwargs: None  # type: ignore[method-assign, assignment]


def train(composed: DictConfig) -> None:
    config = validate(job_config(composed))
    way = json.loads(os.environ.get("FAKE", "{}")).get(str(config.seed), "")
    if way == "fail at once":
        raise RunError(f"seed {config.seed} fails at once")
    run = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stopped.append(number))
    run.status("running")
    total, rows, epoch = float(config.seed), run.history(), config.trainer.max_epochs
    if composed.resume is None:
        run.begin(config, {"device": {"threads": int(os.environ["OMP_NUM_THREADS"])}})
    else:
        way = "slow" if way == "slow" else ""
        run.resume(config)
        total = float(rows[-1]["val/auc"]) if rows else total
    try:
        for epoch in range(len(rows) + 1, config.trainer.max_epochs + 1):
            if way in ("slow", "hang"):
                until = time.monotonic() + 60 if way == "hang" else time.monotonic() + 0.25
                while time.monotonic() < until:
                    time.sleep(0.05)
            total += 1 / epoch
            run.add_epoch({"epoch": epoch, "val/auc": total, "seconds": 0.25})
            run.status("running", epoch=epoch)
            until = time.monotonic() + 60
            while epoch == 2 and way == "wait" and not stopped and time.monotonic() < until:
                time.sleep(0.05)
            if stopped:
                raise Interrupted(stopped[0])
            if epoch == 2 and way == "raise":
                raise ValueError("the job raised")
            if epoch == 2 and way == "exit":
                os._exit(7)
            if epoch == 2 and way == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if epoch == 2 and way == "requeue":  # what SLURM sends before the time is over
                os.kill(os.getppid(), signal.SIGUSR2)
                time.sleep(1)
            if epoch == 2 and way == "orphan":
                os.kill(os.getppid(), signal.SIGKILL)
                until = time.monotonic() + 10
                while not stopped and time.monotonic() < until:  # until it is really gone, and the signal says so
                    time.sleep(0.05)
    except Interrupted:
        run.status("interrupted")
        raise
    except ValueError as error:
        with open(run.path / "train.log", "a") as log:
            log.write(traceback.format_exc())
        run.status("failed", error=f"ValueError: {error}")
        raise
    entry: dict[str, Any] = {"value": total, "split": "test", "epoch": epoch, "direction": "max"}
    run.summary({"val/auc": {**entry, "split": "validation"}, "test/auc": entry})
    run.status("completed")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def main(cfg: DictConfig) -> None:
    with errors_in_one_line():
        train(cfg)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
