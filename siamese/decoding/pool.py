"""Several processes that decode files at once.

They are new interpreters, not forks: this process may have threads and a device, which forks do not survive. They have
a process group of their own, so that an interrupt typed in the terminal reaches only the process that ends them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import siamese
from siamese.decoding.decode import Decoding
from siamese.decoding.formats import formats
from siamese.decoding.names import few
from siamese.decoding.rows import Done, decode_into
from siamese.errors import RunError

TOGETHER = 16  # files of a task


class Task:
    """Some ``paths``, of which the first belongs into the row ``first``."""

    def __init__(self, first: int, paths: Sequence[str]) -> None:
        self.first, self.paths = first, list(paths)


class Worker:
    """A process, and the task that it has."""

    def __init__(self, setting: dict[str, Any], descriptors: Sequence[int]) -> None:
        self.task: Task | None = None
        # It is to find the plugins and this package where we do, whatever else is installed.
        found = [*(place or os.getcwd() for place in sys.path), str(Path(siamese.__file__).parents[1])]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "siamese.decoding.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
                pass_fds=descriptors,
                process_group=0,
            )
        except OSError as error:
            raise RunError(f"a process to decode images cannot be started ({error.strerror})") from None
        self._say(setting)

    @property
    def answers(self) -> int:
        """The descriptor that its answers come from."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def take(self, task: Task) -> None:
        """Have it do ``task``."""
        self.task = task
        self._say({"first": task.first, "paths": task.paths})

    def _say(self, content: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its answer shows
            self.process.stdin.write(json.dumps(content).encode() + b"\n")
            self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says next.

        Raises:
            OSError: when it could not write pixels.
            RunError: when it had too little memory, or has ended.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise RunError(self._ended())
        content: dict[str, Any] = json.loads(line)
        if "errno" in content:
            raise OSError(content["errno"], content["strerror"])
        if "failed" in content:
            raise RunError(content["failed"])
        return content

    def _ended(self) -> str:
        status = self.process.wait()
        how = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended (exit status {status})"
        if self.task is None:
            return f"a process to decode images {how} before it began"
        little = " (too little memory may be free: set data.decode_workers=1)" if status == -signal.SIGKILL else ""
        return f"a process {how} while it decoded one of {few(self.task.paths)}{little}; what was decoded is kept"

    def end(self) -> None:
        """End it, whatever it does, and wait until it has."""
        self.process.kill()
        self.process.communicate()


def decode_in_processes(
    descriptors: Sequence[int], first: int, root: Path, paths: Sequence[str], decoding: Decoding
) -> Generator[tuple[int, Sequence[str], Done]]:
    """Decode ``paths`` below ``root`` by ``data.decode_workers`` processes into the rows ``first``, ``first`` + 1, … of
    the file ``descriptors[0]``. Processes hold all ``descriptors`` open, a lock among them, while they live.

    Yields:
        The first row, paths and outcome of some of the files, in any order.

    Raises:
        OSError: when pixels cannot be written.
        RunError: when processes cannot be started, are killed, or have too little memory.
    """
    tasks = iter([Task(first + at, paths[at : at + TOGETHER]) for at in range(0, len(paths), TOGETHER)])
    setting = {"root": str(root), "decoding": dataclasses.asdict(decoding), "descriptor": descriptors[0]}
    workers: list[Worker] = []
    try:
        for _ in range(min(decoding.decode_workers, -(-len(paths) // TOGETHER))):
            workers.append(Worker(setting, descriptors))  # noqa: PERF401, so that those are known that were started
        here_alone: set[str] = set()  # formats of plugins that only this process was told of
        at_work = {worker.answers: worker for worker in workers}
        while at_work:
            for answers in wait(list(at_work)):
                worker = at_work[answers]  # type: ignore[index]
                answer, task = worker.answer(), worker.task
                if task is None:
                    here_alone = set(formats()) - set(answer["formats"])
                if following := next(tasks, None):
                    worker.take(following)
                else:
                    del at_work[worker.answers]
                if task is not None:
                    done = Done(*answer["done"])
                    if done.damaged and here_alone:
                        done = _again(descriptors[0], task, root, decoding, done)
                    yield task.first, task.paths, done
    finally:
        for worker in workers:
            worker.end()


def _again(descriptor: int, task: Task, root: Path, decoding: Decoding, done: Done) -> Done:
    """``done`` with those decoded that this process can decode, and the worker could not."""
    for row, path in enumerate(task.paths, task.first):
        if path in done.damaged:
            own = decode_into(descriptor, row, root, [path], decoding)
            rest = {other: why for other, why in done.damaged.items() if other != path}
            done = Done(done.crcs | own.crcs, done.notes | own.notes, rest | own.damaged)
    return done
