"""One job of a sweep, wherever a Hydra launcher calls it: in a process of its own that costs only
itself (started anew, or forked from one that has imported torch), or, with ``sweep.isolate=false``, in the
launcher's."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from siamese.config.words import quoted
from siamese.errors import ConfigError, Interrupted, RunError
from siamese.runs.directory import RunDirectory
from siamese.runs.files import write_json
from siamese.runs.locks import holder, release
from siamese.runs.read import holds_a_run, read_manifest, status_if_readable
from siamese.runs.state import state
from siamese.sweep.forked import Forked, fork
from siamese.sweep.warm import find_prctl, tied_to

PATIENCE = 20.0  # seconds for a job that was asked to stop, or whose last process has not ended
IMPATIENCE = 2.0  # the same, once it is asked again
POLL = 0.1
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
FORK = "fork"  # of sweep.isolate
Child = subprocess.Popen[bytes] | Forked
STOP = "stop.json"  # in the sweep's directory: why no job is to begin, and those that run are to stop


@dataclass(frozen=True)
class Job:
    """The task function that a sweep gives to its launcher: runs the job whose directory Hydra names.

    It never raises for what a job does: how a job ended stands in its directory.

    Attributes:
        command: what runs one job: Python and train.py.
        words: the overrides of each job, by the name of its directory.
        cwd: where the sweep was started, which relative paths are relative to.
        threads: for each job; None leaves that to the launcher's environment.
        timeout: seconds that a job may take, if there is a limit.
    """

    command: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    cwd: str
    threads: int | None = None
    timeout: float | None = None
    fail_fast: bool = False
    isolate: bool | str = True

    def __call__(self, config: DictConfig) -> None:
        directory = Path(HydraConfig.get().runtime.output_dir)
        if (directory.parent / STOP).exists():
            return
        if self.isolate is not False:
            self._run(directory)
        else:
            self._run_here(directory, config)
        ended = state(directory)
        if self.fail_fast and ended.name in ("failed", "killed"):
            stop(directory.parent, f"sweep.fail_fast: {directory.name} {ended.name}")

    # -- in a process of its own ---------------------------------------------------------------

    def _run(self, directory: Path) -> None:
        until = time.monotonic() + PATIENCE
        while holder(directory) and time.monotonic() < until:  # a process that is being stopped
            time.sleep(POLL)
        if state(directory).name in ("completed", "running"):
            return
        where = "resume" if holds_a_run(directory) else "hydra.run.dir"
        words = [*self.words[directory.name], f"{where}={quoted(directory)}", "hydra.mode=RUN"]
        began = time.monotonic()

        def asked() -> Ending | None:
            if (directory.parent / STOP).exists():
                return Ending("interrupted")
            if self.timeout is not None and time.monotonic() - began > self.timeout:
                return Ending("failed", f"stopped after sweep.timeout={self.timeout:g} seconds")
            return None

        patience = PATIENCE if self.timeout is None else min(PATIENCE, self.timeout)
        command, environment = [*self.command, *words], self._environment(directory)
        if self.isolate == FORK:
            with tempfile.TemporaryFile() as output:
                forked = fork(command, self.cwd, environment, output)
                began = time.monotonic()  # now: what it is forked from may have had all to import
                report(directory, forked, wait(forked, asked, patience), output)
        else:
            run_apart(command, directory, self.cwd, environment, asked, patience)

    def _environment(self, directory: Path) -> dict[str, str]:
        """How many threads the job may use: those it began with, or else those it is given."""
        threads: Any = self.threads
        with contextlib.suppress(RunError):
            began = read_manifest(directory).get("device", {}).get("threads")
            threads = began if isinstance(began, int) else threads
        return {} if threads is None else dict.fromkeys(THREADS, str(threads))

    # -- in this process -----------------------------------------------------------------------

    def _run_here(self, directory: Path, config: DictConfig) -> None:
        os.environ.update(self._environment(directory))
        os.chdir(self.cwd)
        import torch

        from siamese.training.check import typed
        from siamese.training.run import train

        torch.set_num_threads(int(os.environ.get(THREADS[0], torch.get_num_threads())))
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        before = status_if_readable(directory)
        try:
            train(typed(config), directory)
        except (Interrupted, KeyboardInterrupt):
            stop(directory.parent, "interrupted")
        except BaseException as error:  # even an exit is this job's alone
            if status_if_readable(directory) == before:  # it came before the run could say so itself
                is_ours = isinstance(error, (ConfigError, RunError))
                said = str(error) if is_ours else f"{type(error).__name__}: {error}"
                _say(directory, Ending("failed", said), "" if is_ours else traceback.format_exc())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            _clean()


@dataclass(frozen=True)
class Ending:
    """How a run is to end that is asked to, as its status.json shall say."""

    state: str
    error: str | None = None


def run_apart(
    command: Sequence[str],
    directory: Path,
    cwd: str,
    environment: Mapping[str, str],
    asked: Callable[[], Ending | None],
    patience: float = PATIENCE,
) -> None:
    """Run ``command``, which is train.py in ``directory``, in a process of its own, and say in the
    directory how it ended where it could not.

    Args:
        asked: looked at ten times a second; an ending asks the process to save and stop.
        patience: seconds until a process that was asked is killed.
    """
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is passed on once, not felt by all of them at once
            preexec_fn=_tied_to(os.getpid()),
        )
        report(directory, child, wait(child, asked, patience), output)


def wait(child: Child, asked: Callable[[], Ending | None], patience: float) -> Ending | None:
    """Wait for ``child`` to end, or to be asked to and to end; how it was asked, if it was."""
    notice, noticed = signal.getsignal(signal.SIGUSR2), []  # submitit's: it requeues, and ends this process
    if callable(notice):
        signal.signal(signal.SIGUSR2, lambda number, frame: noticed.append(number))
    try:
        while child.poll() is None:
            if (ending := asked()) is not None:
                _end(child, patience)
                return ending
            if noticed and callable(notice):
                _end(child, patience)  # which saves first
                notice(noticed.pop(), None)
            time.sleep(POLL)
    except BaseException:  # the launcher itself is ended, as by a second Ctrl-C
        _end(child, IMPATIENCE)
        raise
    finally:
        if callable(notice):
            signal.signal(signal.SIGUSR2, notice)
    return None


def stop(sweep: Path, reason: str) -> None:
    """Have no other job of the sweep begin, and those that run save and stop."""
    if not (sweep / STOP).exists():
        write_json(sweep / STOP, {"reason": reason})


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _tied_to(parent: int) -> Callable[[], None]:
    """What a job's process does before it becomes train.py: listen to signals again (the sweep's
    block Ctrl-C), and, where the system can, be asked to stop when its parent dies."""
    find_prctl()  # here: between fork and exec a thread that is not there any more may hold the loader's lock

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell has it ignored in the background
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a queue's notice, which is meant for the parent
        tied_to(parent, signal.SIGINT)

    return prepare


def _end(child: Child, patience: float) -> None:
    """Ask ``child`` and its own processes to save and stop; end them if they do not."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            return


def report(directory: Path, child: Child, asked: Ending | None, output: IO[bytes]) -> None:
    """Say in the directory how the job ended, where its process could not."""
    status = child.poll()
    assert status is not None  # it has ended
    if status == 0:
        return
    said = status_if_readable(directory)
    spoke = said.get("pid") == child.pid and said.get("state") in ("failed", "interrupted")
    if spoke and (asked is None or asked.error is None):
        return
    output.seek(0)
    text = output.read().decode(errors="replace")
    _say(directory, asked or _death(status, text), "" if spoke else text)


def _death(status: int, text: str) -> Ending:
    """How a process ended that printed ``text`` and left with ``status``."""
    if status < 0:
        why = f"killed by {signal.Signals(-status).name} (signal {-status})"
        return Ending("failed", f"{why}; often for want of memory" if -status == signal.SIGKILL else why)
    last = (text.strip().splitlines() or [f"exit status {status}"])[-1]
    return Ending("failed", last.removeprefix("error: "))


def _say(directory: Path, ending: Ending, output: str) -> None:
    try:
        run = RunDirectory(directory)
    except ConfigError:  # another process has it, and speaks for it
        return
    try:
        run.died(ending.state, ending.error, output)
    finally:
        release(directory)


def _clean() -> None:
    """Leave nothing of a job to the next one in this process."""
    import matplotlib.pyplot as plt

    plt.close("all")
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    gc.collect()
