"""The optimizer's schedule, and both tried before a run begins."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from siamese.errors import ConfigError
from siamese.schema import OWN_KEYS, SPANS, Config
from siamese.targets import make


def schedule(config: Config, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Any] | None:
    """Lightning's description of the scheduler; null ``T_max`` and ``total_steps`` span the run."""
    if not config.scheduler.get("_target_"):
        return None
    span = steps if config.scheduler["interval"] == "step" else config.trainer.max_epochs
    spans = {k: span for k in SPANS if k in config.scheduler and config.scheduler[k] is None}
    own = OWN_KEYS["scheduler"]
    arguments = {k: v for k, v in config.scheduler.items() if k not in own} | spans
    if "max_lr" in arguments and len(optimizer.param_groups) > 1:  # each group peaks in proportion to its rate
        rates = [group["lr"] for group in optimizer.param_groups]
        arguments["max_lr"] = [arguments["max_lr"] * rate / rates[0] for rate in rates]
    scheduler = make("scheduler", arguments, optimizer)
    return {"scheduler": scheduler, "interval": config.scheduler["interval"]}


def check_optimization(config: Config) -> None:
    """Make the optimizer and its schedule of one parameter, so that what they refuse is known early."""
    optimizer = make("optimizer", config.optimizer, [torch.nn.Parameter(torch.zeros(1, 1))])
    if not isinstance(optimizer, torch.optim.Optimizer):
        path, found = config.optimizer["_target_"], type(optimizer).__name__
        raise ConfigError(f"optimizer._target_={path}: expected what makes a torch.optim.Optimizer, found {found}")
    window, mode = config.trainer.accumulate_grad_batches, config.accumulation.mode
    evaluates_again = inspect.signature(type(optimizer).step).parameters["closure"].default is inspect.Parameter.empty
    if evaluates_again and (mode != "naive" or window > 1):
        raise ConfigError(
            f"optimizer._target_={config.optimizer['_target_']}: it evaluates each step several times, and the "
            f"micro-batches of a window pass once; with accumulation={mode} and trainer.accumulate_grad_batches="
            f"{window} expected an optimizer that evaluates a step once"
        )
    planned = schedule(config, optimizer, steps=100)
    if planned is not None and isinstance(planned["scheduler"], ReduceLROnPlateau):
        raise ConfigError(
            f"scheduler._target_={config.scheduler['_target_']}: it waits for a metric; expected a scheduler that "
            "follows steps or epochs"
        )
