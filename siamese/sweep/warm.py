"""A process that has imported all that a job imports, and done nothing else: jobs are forked from it, and begin without
the seconds that importing takes. It has no thread of its own (the allocator's survives a fork) and no CUDA, so that a
fork of it is as good as new."""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any, NoReturn

IMPORTED = (  # of what a job imports, what takes long
    "siamese.commands.train",
    "siamese.training.run",
    "siamese.training.preflight",
    "pytorch_lightning.loops",
    "sklearn.linear_model",
    "sklearn.cluster",
    "matplotlib.backends.backend_agg",
    "hydra.core.plugins",
)
LONGEST = 2**20  # bytes of an order
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")  # of linear algebra, the first that is there
ALONE = {"OPENBLAS_NUM_THREADS": "1"}  # what keeps the imports from starting threads
PR_SET_PDEATHSIG = 1


def serve(descriptor: int) -> NoReturn:
    """Fork a job for each order that comes over the socket ``descriptor``: JSON with its ``argv``, ``cwd`` and
    ``environment``, and beside it the file that the job writes to. Answered are its process and, when it has ended, its
    status."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # the sweep blocks those that it passes on
    tied_to(os.getppid(), signal.SIGTERM)
    for module in IMPORTED:
        importlib.import_module(module)
    gc.freeze()  # what is shared stays shared: collecting garbage would touch it
    with socket.socket(fileno=descriptor) as orders:
        while True:
            line, files, _, _ = socket.recv_fds(orders, LONGEST, 1)
            if not line:
                os._exit(0)  # as a job does
            server, child = os.getpid(), os.fork()
            if not child:
                orders.close()
                _become(json.loads(line), files[0], server)
            os.close(files[0])
            orders.sendall(f"{child}\n".encode())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            orders.sendall(f"{status}\n".encode())


def tied_to(parent: int, number: signal.Signals) -> None:
    """Have the system send this process the signal ``number`` when ``parent`` dies, where it can."""
    if (prctl := find_prctl()) is not None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # too late to be told
            os._exit(128 + number)


@cache
def find_prctl() -> Callable[[int, int], int] | None:
    """The system's call of this name, which Linux has."""
    return ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def _become(order: dict[str, Any], output: int, server: int) -> NoReturn:
    """Turn this process into ``python ARGV...`` in a session of its own."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    tied_to(server, signal.SIGINT)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    sys.argv = order["argv"]
    _use_threads()
    leave_as(sys.argv[0])


def _use_threads() -> None:
    """Give linear algebra the threads that it would have begun with."""
    from threadpoolctl import threadpool_limits

    asked = next((n for name in THREADS if (n := os.environ.get(name))), None)
    threadpool_limits(int(asked) if asked else os.cpu_count(), user_api="blas")


def leave_as(script: str) -> NoReturn:
    """Run ``script`` as ``python SCRIPT`` would, and end this process with its status."""
    status: object = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as asked:
        status = asked.code or 0
    except BaseException:
        traceback.print_exc()
        status = 1
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)  # taking down all that was imported would take longer than some jobs
