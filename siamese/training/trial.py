"""What training with micro-batches of some size takes: two steps of it, tried out and measured."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch

from siamese.config.schema import Config
from siamese.data import SiameseData
from siamese.errors import ConfigError
from siamese.memory import available_memory, is_out_of_memory
from siamese.training.averaging import make_averaging
from siamese.training.build import build
from siamese.training.precision import precision_of

SHARE = 0.9  # of what is free; the rest is for what a trial does not see, such as validation
LOOK_EVERY = 0.002  # seconds between two looks at what a trial takes
TOO_MUCH = 3  # exit status of a trial that was refused memory


def check_measurable(config: Config) -> None:
    """Refuse a device on which nothing says what training takes.

    Raises:
        ConfigError: naming it.
    """
    device = device_of(config)
    if device == "mps" or (device == "cpu" and (available_memory() is None or resident(os.getpid()) is None)):
        raise ConfigError(
            f"data.batch_size=auto: this system does not say what a process takes on {device}; expected a number"
        )


def device_of(config: Config) -> str:
    """``cuda``, ``mps`` or ``cpu``: what ``device.accelerator`` is here."""
    asked = config.device.accelerator
    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def budget(config: Config) -> int:
    """Bytes that training may take on each device: ``device.memory_budget``, or nine tenths of what is free there.
    Devices that are processes on one CPU share its memory."""
    if config.device.memory_budget is not None:
        return round(config.device.memory_budget * 1e9)
    if device_of(config) == "cuda":
        return int(SHARE * torch.cuda.mem_get_info()[0])
    return int(SHARE * (available_memory() or 0)) // config.device.devices


def measure(config: Config, data: SiameseData, most: int) -> tuple[int, bool]:
    """Bytes that two steps of ``config`` on ``data`` took at their peak above what was taken before, and whether they
    took at most ``most``. What takes more is stopped as soon as it does, so that its bytes are no more than a sign.

    On a GPU they are bytes of tensors. On the CPU the steps are taken by a forked process, whose anonymous memory is
    looked at all the while: this process keeps none of it, and survives where the system ends the other.
    """

    def steps() -> None:
        rehearse(config, data)

    return _on_gpu(steps, most) if device_of(config) == "cuda" else _on_cpu(steps, most)


def rehearse(config: Config, data: SiameseData) -> None:
    """Take two optimizer steps: with the second the optimizer has its state."""
    window = config.trainer.accumulate_grad_batches
    if config.accumulation.mode == "naive":
        window = min(window, 2)  # one micro-batch leaves nothing to the next but the gradient
    module = build(config, data)
    module.make_schedule = lambda optimizer, steps: None
    clip, averaging = config.trainer.gradient_clip_val, make_averaging(config)
    pl.Trainer(
        accelerator=config.device.accelerator,
        devices=1,
        precision=precision_of(config),  # type: ignore[arg-type]
        max_epochs=-1,
        max_steps=2,
        accumulate_grad_batches=window,
        gradient_clip_val=clip,
        gradient_clip_algorithm=config.trainer.gradient_clip_algorithm if clip else None,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        logger=False,
        callbacks=[] if averaging is None else [averaging],
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    ).fit(module, datamodule=data)


def _on_gpu(steps: Callable[[], None], most: int) -> tuple[int, bool]:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    refused = False
    try:
        steps()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        refused = True
    peak = torch.cuda.max_memory_allocated() - before
    gc.collect()
    torch.cuda.empty_cache()
    return peak, not refused and peak <= most


def _on_cpu(steps: Callable[[], None], most: int) -> tuple[int, bool]:
    before = resident(os.getpid())
    assert before is not None
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _be_the_trial(steps, write)
    os.close(write)
    peak, ended = 0, None
    try:
        while ended is None:
            peak = max(peak, (resident(child) or 0) - before)
            if peak > most:
                return peak, False
            done, status = os.waitpid(child, os.WNOHANG)
            ended = os.waitstatus_to_exitcode(status) if done else None
            if ended is None:
                time.sleep(LOOK_EVERY)
    finally:
        if ended is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with open(read, "rb") as pipe:
            said = pipe.read().decode()
    if ended in (TOO_MUCH, -signal.SIGKILL):  # by whom, if not by the system for want of memory
        return peak, False
    if ended:
        raise RuntimeError(f"the trial of a micro-batch ended with status {ended}\n{said}")
    return peak, True


def _be_the_trial(steps: Callable[[], None], write: int) -> None:
    """Take the steps and end this forked process, with what went wrong written to ``write``."""
    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        logging.disable()
        torch.set_num_threads(1)  # the threads of this process's parent are not here
        steps()
        status = 0
    except BaseException as error:
        status = TOO_MUCH if is_out_of_memory(error) else 1
        os.write(write, traceback.format_exc()[-4000:].encode())
    finally:
        os._exit(status)


def resident(process: int) -> int | None:
    """Bytes of memory that are a process's own, not of files; None where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))]
    return sum(found) * 1024 if found else None
