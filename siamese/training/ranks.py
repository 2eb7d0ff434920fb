"""The processes that torchrun or srun has started to train one network: they meet, and say which of them is lost."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from torch.distributed.distributed_c10d import _get_default_store

from siamese.errors import RunError, several
from siamese.training.roles import launched

GRACE = 5.0  # seconds within which those that are left say so
LOOK_EVERY = 0.5  # seconds between two looks at whether one asks


def join(trainer: pl.Trainer, timeout: float) -> None:
    """Wait until all processes that were started are here; nothing where this one has started the others.

    Raises:
        RunError: when they are not within ``timeout`` seconds.
    """
    found = launched()
    if found is None or found.ranks == 1:
        return
    try:
        trainer.strategy.setup_environment()
        wait(trainer)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"device.timeout={timeout:g}: the {found.ranks} processes of {found.by} were not all here within so many "
            f"seconds ({reason})"
        ) from None
    _get_default_store().set(f"process/{found.rank}", f"process {os.getpid()} on {socket.gethostname()}")
    over = threading.Event()
    thread = threading.Thread(target=_answer, args=(found.rank, over), daemon=True)
    thread.start()
    atexit.register(_end, thread, over)


def _answer(rank: int, over: threading.Event) -> None:
    """Say that this process is there once one asks: it may itself be waiting for others, and learn of nothing."""
    store = _get_default_store().clone()
    with contextlib.suppress(RuntimeError):  # the store ends with the process that has it
        while not store.check(["asked"]):
            if over.wait(LOOK_EVERY):
                return
        store.set(f"left/{rank}", "1")


def _end(thread: threading.Thread, over: threading.Event) -> None:
    """End the thread before the interpreter does, which aborts where one is inside torch."""
    over.set()
    thread.join(GRACE)


def wait(trainer: pl.Trainer) -> None:
    """Let all processes that were started come to where this one is."""
    if launched() is not None:
        trainer.strategy.barrier()


@contextlib.contextmanager
def losses_told(trainer: pl.Trainer) -> Iterator[None]:
    """Say which processes are lost when one cannot be reached any more.

    They are asked in the store that they share; those that have not answered within five seconds are lost.

    Raises:
        RunError: naming them.
    """
    try:
        yield
    except RuntimeError as error:
        found = launched()
        if found is None or not _is_of_the_others(error):
            raise
        try:
            lost = _lost(found.rank, found.ranks)
        except RuntimeError:
            raise RunError("a process was lost while training, and so was the one that knows which") from None
        if not lost:
            raise
        what = "a process was lost" if len(lost) == 1 else f"{len(lost)} processes were lost"
        raise RunError(f"{what} while training: {several(lost)}") from None


def _is_of_the_others(error: RuntimeError) -> bool:
    """Whether ``error`` says that another process cannot be reached."""
    text = str(error).lower()
    return isinstance(error, torch.distributed.DistError) or "gloo" in text or "nccl" in text


def _lost(rank: int, ranks: int) -> list[str]:
    """The processes that do not say that they are there, as rank and place."""
    store = _get_default_store()
    store.set(f"left/{rank}", "1")
    store.set("asked", "1")
    until = time.monotonic() + GRACE
    others = set(range(ranks)) - {rank}
    while others and time.monotonic() < until:
        others = {other for other in others if not store.check([f"left/{other}"])}
        time.sleep(0.05)
    return [f"rank {other} ({store.get(f'process/{other}').decode()})" for other in sorted(others)]
