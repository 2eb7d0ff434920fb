"""The CUDA card that is measured: what it is, and how much of its memory is taken."""

from __future__ import annotations

import gc
import shutil
import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def card() -> dict[str, Any]:
    """What the card is, for the report.

    Raises:
        SystemExit: without one.
    """
    if not torch.cuda.is_available():
        raise SystemExit(f"error: --gpu: expected a CUDA card, torch {torch.__version__} finds none")
    of_card = torch.cuda.get_device_properties(0)
    return {
        "card": of_card.name,
        "card memory": f"{of_card.total_memory / 1e9:.0f} GB",
        "compute capability": f"{of_card.major}.{of_card.minor}",
        "driver": _driver(),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
    }


def _driver() -> str:
    """The version of the driver, which only nvidia-smi tells."""
    if shutil.which("nvidia-smi") is None:
        return "not known, without nvidia-smi"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else f"not known, nvidia-smi ended with {done.returncode}"


def with_peak(device: str, run: Callable[[], T]) -> tuple[T, float]:
    """What ``run`` returns, and the most bytes that tensors took on the card meanwhile, beyond those that were there
    before. The CPU does not count them: 0."""
    if device != "cuda":
        return run(), 0.0
    gc.collect()  # what an earlier run left in circles
    torch.ones(2, 2, device=device).mm(torch.ones(2, 2, device=device))  # a workspace stays from the first product on
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    found = run()
    torch.cuda.synchronize()
    return found, float(torch.cuda.max_memory_allocated() - before)
