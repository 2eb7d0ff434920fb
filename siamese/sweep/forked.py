"""Jobs that are forked from a warmed process, as :mod:`subprocess` has those that are started anew."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from siamese.errors import RunError
from siamese.sweep.warm import ALONE

CODE = "import sys; sys.path[0] = {path!r}; from siamese.sweep.warm import serve; serve({descriptor})"
POLL = 0.05


class Forked:
    """One job: ``pid``, and ``returncode`` once it has ended, negative of the signal that ended it."""

    def __init__(self, answers: socket.socket, pid: int) -> None:
        self.pid: int = pid
        self.returncode: int | None = None
        self._answers = answers
        self._alone = False  # the process that it was forked from has ended

    def poll(self) -> int | None:
        """The exit status, None while it runs. Of one that has lost the process it was forked from, and saves and stops
        for that, nobody knows it: it is as if it was killed, and its directory says what it came to."""
        if self.returncode is None and not self._alone and select.select([self._answers], [], [], 0)[0]:
            self.returncode = _number(self._answers)
            self._alone = self.returncode is None
        if self._alone and not _is_there(self.pid):
            self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit status, within ``timeout`` seconds.

        Raises:
            subprocess.TimeoutExpired: when it takes longer.
        """
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked job", timeout)
            time.sleep(POLL)
        return status


class Warmed:
    """The warmed process for jobs of one environment, started with the first of them."""

    def __init__(self, script: str, cwd: str, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._socket, other = socket.socketpair()
        code = CODE.format(path=str(Path(script).parent), descriptor=other.fileno())
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=cwd,
                env=self.environment | ALONE,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
                start_new_session=True,  # a Ctrl-C is passed on to the job, not felt here
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, argv: Sequence[str], cwd: str, output: IO[bytes]) -> Forked:
        """Fork ``python ARGV...``, which writes to ``output``.

        Raises:
            RunError: when the process is gone.
        """
        try:
            order = {"argv": list(argv), "cwd": cwd, "environment": self.environment}
            socket.send_fds(self._socket, [json.dumps(order).encode()], [output.fileno()])
            pid = _number(self._socket)
        except OSError:
            pid = None
        if pid is None:
            raise RunError(
                "sweep.isolate=fork: the process that jobs are forked from has ended "
                f"(exit status {self._process.wait(POLL * 100)}); sweep.isolate=true starts each job anew"
            )
        return Forked(self._socket, pid)

    def close(self) -> None:
        """End it; a job that still runs is asked to save and stop."""
        self._socket.close()
        self._process.terminate()
        self._process.wait()


_warmed: list[Warmed] = []  # of this process: one, for as long as jobs have its environment


def fork(command: Sequence[str], cwd: str, environment: Mapping[str, str], output: IO[bytes]) -> Forked:
    """Start ``command``, which is Python, a script and its arguments, as a fork of the warmed process.

    Raises:
        RunError: when that process cannot be had.
    """
    whole = {**os.environ, **environment}
    if _warmed and (not _warmed[0].alive or _warmed[0].environment != whole):
        _warmed.pop().close()
    if not _warmed:
        _warmed.append(Warmed(command[1], cwd, whole))
    return _warmed[0].start(command[1:], cwd, output)


def _number(answers: socket.socket) -> int | None:
    """The number on the next line; None where the other side is gone."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            one = answers.recv(1)
        except OSError:
            one = b""
        if not one:
            return None
        line += one
    return int(line)


def _is_there(process: int) -> bool:
    """Whether ``process`` runs; one that has ended may still be listed, where nobody has asked how."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
