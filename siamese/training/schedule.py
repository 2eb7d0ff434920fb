"""The optimizer's schedule."""

from __future__ import annotations

import math
from typing import Any

import torch

from siamese.config.schema import OWN_KEYS, SPANS, Config
from siamese.config.targets import make


def schedule(config: Config, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Any] | None:
    """Lightning's description of the scheduler; null ``T_max`` and ``total_steps`` span the run."""
    if not config.scheduler.get("_target_"):
        return None
    trainer = config.trainer
    epochs = trainer.max_epochs
    if trainer.max_steps is not None and trainer.max_steps < steps:  # what ends by steps is scheduled over these
        steps, epochs = trainer.max_steps, math.ceil(trainer.max_steps * epochs / steps)
    span = steps if config.scheduler["interval"] == "step" else epochs
    spans = {k: span for k in SPANS if k in config.scheduler and config.scheduler[k] is None}
    own = OWN_KEYS["scheduler"]
    arguments = {k: v for k, v in config.scheduler.items() if k not in own} | spans
    if "max_lr" in arguments and len(optimizer.param_groups) > 1:  # each group peaks in proportion to its rate
        rates = [group["lr"] for group in optimizer.param_groups]
        arguments["max_lr"] = [arguments["max_lr"] * rate / rates[0] for rate in rates]
    scheduler = make("scheduler", arguments, optimizer)
    return {"scheduler": scheduler, "interval": config.scheduler["interval"]}
