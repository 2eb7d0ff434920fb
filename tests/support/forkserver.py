"""Commands as processes of their own that begin with everything imported.

``python tests/support/forkserver.py`` reads one command a line from stdin, as JSON: ``argv`` (the script
first), ``environment`` (the whole of it), ``stdout`` and ``stderr`` (files they go to; null closes it). Each runs in a
process forked from this one, as ``python SCRIPT ...`` would but for the seconds that importing torch
takes; its exit status is answered. With ``by_rank`` there are several, each with more of an environment of its
own, the largest of their exit statuses is answered, and ``rank`` is the one to be killed. How it is to be killed,
where it is, :mod:`killer` says. With ``background`` the process itself is answered, at once, and ``poll`` asks for the
status of such a one.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
IMPORTED = ("siamese.training.run", "sklearn.datasets", "matplotlib.backends.backend_agg", "pytorch_lightning.loops")


class ForkServer:
    """The server as seen by tests."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "tests/support/forkserver.py"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(
        self,
        *argv: object,
        stdout: Path | None,
        stderr: Path,
        environment: dict[str, str],
        cwd: Path = ROOT,
        **end: Any,
    ) -> int:
        """The exit status of ``python ARGV...``, run from ``cwd``."""
        order = {"argv": [*map(str, argv)], "stdout": stdout and str(stdout), "stderr": str(stderr)}
        order["environment"] = environment
        order["cwd"] = str(cwd)
        assert self.process.stdin is not None
        print(json.dumps(order | end), file=self.process.stdin, flush=True)
        return int(self._answer())

    def start(self, *argv: object, **order: Any) -> Started:
        """The same, which goes on while it is watched."""
        return Started(self, self.run(*argv, background=True, **order))

    def ask(self, about: dict[str, int]) -> int | None:
        """What the server knows of a process that was started."""
        assert self.process.stdin is not None
        print(json.dumps(about), file=self.process.stdin, flush=True)
        return None if (answer := self._answer()) == "None" else int(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


class Started:
    """A process that the server has started, with what tests use of :class:`subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.server, self.pid, self.returncode = server, pid, None

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        if self.returncode is None:
            self.returncode = self.server.ask({"poll": self.pid})
        return self.returncode

    def wait(self, seconds: float = 200) -> int:
        """Its exit status."""
        ends = time.monotonic() + seconds
        while (status := self.poll()) is None:
            assert time.monotonic() < ends, f"process {self.pid} has not ended"
            time.sleep(0.005)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send it one, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)


def main() -> None:
    """Serve; see the module."""
    sys.path[:0] = [str(ROOT)]
    os.chdir(ROOT)
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if pid else None, flush=True)
            continue
        children = []
        for rank, own in enumerate(order.get("by_rank", [{}])):
            child = os.fork()
            if not child:
                order["environment"] |= own
                if order.get("rank", rank) != rank:
                    order.pop("place")
                _become(order)
            children.append(child)
        status = children[0] if order.get("background") else max(_ended(child, order) for child in children)
        print(status, flush=True)


def _become(order: dict[str, Any]) -> None:
    """Turn this process into the command; does not return."""
    for name, number, mode in (("/dev/null", 0, "rb"), (order["stdout"], 1, "ab"), (order["stderr"], 2, "ab")):
        if name is None:
            os.close(number)
            continue
        with open(name, mode, buffering=0) as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    script = str(ROOT / order["argv"][0])
    sys.path[:0] = [
        str((ROOT / script).parent),
        str(ROOT / "tests"),
        *filter(None, os.environ.get("PYTHONPATH", "").split(":")),
    ]
    sys.argv = [script if order["cwd"] != str(ROOT) else order["argv"][0], *order["argv"][1:]]
    if "place" in order:
        importlib.import_module("support.killer").die_at(
            order["place"], order["nth"], order.get("signal", signal.SIGKILL)
        )
    importlib.import_module("siamese.sweep.warm").leave_as(script)


def _ended(child: int, order: dict[str, Any]) -> int:
    """The exit status of ``child``, killed ``after`` so many seconds, or when it takes far too long."""
    ends = time.monotonic() + order.get("after", 300.0)
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= ends:
            os.kill(child, order.get("signal", signal.SIGKILL))
            ends = float("inf")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
