"""The optimizer's schedule."""

from __future__ import annotations

from typing import Any

import torch

from siamese.config.schema import OWN_KEYS, SPANS, Config
from siamese.config.targets import make


def schedule(config: Config, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Any] | None:
    """Lightning's description of the scheduler; null ``T_max`` and ``total_steps`` span the run."""
    if not config.scheduler.get("_target_"):
        return None
    span = steps if config.scheduler["interval"] == "step" else config.trainer.max_epochs
    spans = {k: span for k in SPANS if k in config.scheduler and config.scheduler[k] is None}
    own = OWN_KEYS["scheduler"]
    arguments = {k: v for k, v in config.scheduler.items() if k not in own} | spans
    rates = [group["lr"] for group in optimizer.param_groups]
    own_rate = optimizer.defaults.get("lr", rates[0])
    if "max_lr" in arguments and (len(rates) > 1 or rates[0] != own_rate):  # each peaks in proportion to its rate
        arguments["max_lr"] = [arguments["max_lr"] * rate / own_rate for rate in rates]
    scheduler = make("scheduler", arguments, optimizer)
    return {"scheduler": scheduler, "interval": config.scheduler["interval"]}
