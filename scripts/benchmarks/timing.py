"""Two quantities measured in turn, their ratios and spread, the peak memory of a process, and the machine."""

from __future__ import annotations

import operator
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks import ROOT
from siamese.training.precision import processor

MEETS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


def spread(values: Sequence[float]) -> dict[str, float]:
    """``median``, least (``low``) and greatest (``high``) of ``values``, in their unit."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def paired_ratios(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """``upper[i] / lower[i]``, a number without unit, of quantities measured in turn and in one unit."""
    return [a / b for a, b in zip(upper, lower, strict=True)]


def now(device: str) -> float:
    """Seconds of a clock, once all that was asked of ``device`` (cpu or cuda) is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def interleaved(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each side returned at each of ``repeats`` turns, in its unit; one turn before them is dropped."""
    turns = [{name: side() for name, side in sides.items()} for _ in range(repeats + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in sides}


def result(
    what: str, unit: str, values: list[float], sense: str, target: float | None, **samples: list[float]
) -> dict[str, Any]:
    """One quantity as JSON types: its values, one a repeat, their spread and the target, all in ``unit``
    (×, s, ms, images/s, jobs or bytes); whether the median meets the target; and what each side measured (s or
    bytes). ``note`` is for what there is to say of it in words."""
    found = spread(values)
    met = None if target is None else MEETS[sense](found["median"], target)
    verdict = {"sense": sense, "target": target, "met": met}
    return {"what": what, "unit": unit, **found, **verdict, "note": None, "values": values, "samples": samples}


def not_reached(what: str, unit: str, note: str) -> dict[str, Any]:
    """The same of a quantity that has no value, for the reason ``note``."""
    nothing = dict.fromkeys(("median", "low", "high", "target", "met"))
    return {"what": what, "unit": unit, **nothing, "sense": "<", "note": note, "values": [], "samples": {}}


class LeftOut(Exception):
    """Why a measurement cannot be had as it was asked for."""


IMPORTS = "import torch, pytorch_lightning"
# The peak of a process includes what its parent held when it was started, so a small one starts it.
STARTS = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
if done.returncode:
    sys.exit(done.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_bytes(*arguments: str) -> float:
    """Peak resident bytes of ``python ARGUMENTS`` in the project's folder."""
    command = [sys.executable, "-c", STARTS, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def machine() -> dict[str, Any]:
    """What the numbers were measured on; ``load`` is the mean number of busy processes in the last minute."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
