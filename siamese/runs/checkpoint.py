"""Checkpoints, read as plain tensors. torch is imported when one is read."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from siamese.errors import RunError
from siamese.runs.bounds import one_line
from siamese.runs.read import parse_metrics, read_manifest

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)

# What training goes on from: the entries of a checkpoint, and what they are.
PARTS = {
    "state_dict": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "loops": dict,
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
}
STATE = ("best", "also", "random")


def checkpoint_file(run: Path, name: str) -> Path:
    """The checkpoint of ``run`` that a person calls ``name``: best, last.ckpt, …, whether it is there or not."""
    return run / "checkpoints" / f"{Path(name).name.removesuffix('.ckpt')}.ckpt"


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
    path, last = _newest(folder), folder / "last.ckpt"
    if path not in (None, last):
        log.warning("%s cannot be read; going on from %s instead", last, path.name)
    return path


def _newest(folder: Path) -> Path | None:
    last = folder / "last.ckpt"
    others = [p for p in folder.glob("*.ckpt") if p != last and p.is_file()]
    others.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    for path in [last, *others]:
        if path.is_file() and read_checkpoint(path) is not None:
            return path
    if os.path.lexists(last) or others:
        raise RunError(f"{folder}: none of its checkpoints can be read")
    return None


class Trained(NamedTuple):
    """How far a run has come: its ``epochs``, the epoch ``since`` which what it monitors has not improved, and the
    limit by which it has ``ended``, such as trainer.max_steps=10, if it has."""

    epochs: int
    since: int | None
    ended: str | None = None


def resumable(run: Path) -> Trained | None:
    """How far the checkpoint is that the run in ``run`` can go on from; None where it has none.

    Raises:
        RunError: when none can be read, or the one to go on from is of another run or lacks what training needs.
    """
    path = _newest(run / "checkpoints")
    if path is None:
        return None
    checkpoint = read_checkpoint(path)
    assert checkpoint is not None
    require_own(path, checkpoint, read_manifest(run)["run_id"])
    lacking = [name for name, kind in PARTS.items() if not isinstance(checkpoint.get(name), kind)]
    try:
        state = checkpoint["callbacks"]["Checkpoints"]
        since = state["best"].get("since", best_epoch(checkpoint))
        ended = checkpoint["callbacks"].get("Limits", {}).get("ended")
        trained = Trained(trained_epochs(checkpoint)[0], None if since is None else int(since), ended)
        lacking += [f"callbacks.Checkpoints.{name}" for name in STATE if name not in state]
        carried_rows(path, checkpoint)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        lacking = lacking or [one_line(error)]
    if lacking:
        raise RunError(f"{path}: training cannot go on from it ({', '.join(lacking)} missing or damaged)")
    return trained


def require_own(path: Path, checkpoint: dict[str, Any], run_id: str) -> None:
    """Refuse the checkpoint of another run than ``run_id``. One of an earlier version does not say whose it is.

    Raises:
        RunError: naming ``path`` and both runs.
    """
    found = _run(checkpoint).get("run_id", run_id)
    if found != run_id:
        raise RunError(f"{path}: is a checkpoint of another run ({found}; expected {run_id}, as manifest.json has it)")


def carried_rows(path: Path, checkpoint: dict[str, Any]) -> list[dict[str, str]] | None:
    """The rows of metrics.csv when ``checkpoint`` was saved in ``path``; None in one of an earlier version.

    Raises:
        RunError: when they are damaged.
    """
    text = _run(checkpoint).get("metrics")
    if not text:
        return None if text is None else []
    return parse_metrics(text, f"{path}: metrics")


def trained_epochs(checkpoint: dict[str, Any]) -> tuple[int, bool]:
    """The epochs that a checkpoint was trained for, and whether it was saved at the end of the last of them. An epoch
    that a limit has cut short counts: it was measured, and none follows.

    Raises:
        KeyError, TypeError: for a checkpoint that does not say.
    """
    epoch = int(checkpoint["epoch"])
    ended = bool(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"])
    ended = ended or checkpoint["callbacks"]["Checkpoints"].get("validated") == epoch + 1
    return epoch + ended, ended


def best_epoch(checkpoint: dict[str, Any]) -> int | None:
    """The epoch whose weights were the best when a checkpoint was saved; None before the first validation.

    Raises:
        KeyError, TypeError: for a checkpoint that does not say.
    """
    epoch = checkpoint["callbacks"]["Checkpoints"]["best"]["epoch"]
    return None if epoch is None else int(epoch)


def restore(module: nn.Module, path: Path, prefix: str = "", run_id: str | None = None) -> int:
    """Give ``module`` the weights that the checkpoint in ``path`` has under ``prefix``; the whole epochs
    that they were trained for.

    Args:
        run_id: of the run that the checkpoint has to be of, if it matters.

    Raises:
        RunError: when there is no checkpoint, it cannot be read, or it is of another architecture or run.
    """
    if not path.is_file():
        others = sorted(other.name for other in path.parent.glob("*.ckpt"))
        there = f"there is {', '.join(others)}" if others else "the run has not finished an epoch"
        raise RunError(f"{path}: not found; {there}")
    checkpoint = read_checkpoint(path)
    if checkpoint is None:
        raise RunError(f"{path}: cannot be read as a checkpoint")
    if run_id is not None:
        require_own(path, checkpoint, run_id)
    try:
        weights = checkpoint["state_dict"]
        module.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
        return trained_epochs(checkpoint)[0]
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: not a checkpoint of this run's model ({one_line(error)})") from None


def _run(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its run."""
    found = checkpoint.get("run")
    return found if isinstance(found, dict) else {}
