"""Checkpoints, read as plain tensors. torch is imported when one is read."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamese.errors import RunError

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint in ``path``, or None when there is none that can be read as plain tensors."""
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn file makes the reader raise anything
        log.debug("%s: %s", path, error)
        return None
    return checkpoint if isinstance(checkpoint, dict) and "state_dict" in checkpoint else None


def newest(folder: Path) -> Path | None:
    """The checkpoint to go on from: last.ckpt, or the newest other that can be read, and a warning."""
    last = folder / "last.ckpt"
    others = [p for p in folder.glob("*.ckpt") if p != last]
    others.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for path in [last, *others]:
        if path.exists() and read_checkpoint(path) is not None:
            if path != last:
                log.warning("%s cannot be read; going on from %s instead", last, path.name)
            return path
    if last.exists() or others:
        raise RunError(f"{folder}: none of its checkpoints can be read")
    return None


def restore(module: nn.Module, path: Path, prefix: str = "") -> int:
    """Give ``module`` the weights that the checkpoint in ``path`` has under ``prefix``; the whole epochs
    that they were trained for.

    Raises:
        RunError: when there is no checkpoint, it cannot be read, or it is of another architecture.
    """
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.ckpt"))
        there = f"there is {', '.join(others)}" if others else "the run has not finished an epoch"
        raise RunError(f"{path}: not found; {there}")
    checkpoint = read_checkpoint(path)
    if checkpoint is None:
        raise RunError(f"{path}: cannot be read as a checkpoint")
    weights = checkpoint["state_dict"]
    try:
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        return int(checkpoint["epoch"]) + bool(progress["is_last_batch"])
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: not a checkpoint of this run's model ({reason})") from None
