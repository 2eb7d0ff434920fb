"""The optimizer's schedule: what the configuration names, after a warm-up if there is one."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from siamese.config.schema import OWN_KEYS, SPANS, Config
from siamese.config.targets import find_target, make
from siamese.errors import ConfigError
from siamese.evaluation.names import direction

PREFIX = "val/"


class Schedule(LRScheduler):
    """``after``, if any, behind a warm-up of ``length`` steps or epochs: of these the t-th, from 0, has (t + 1) /
    (length + 1) of the rate that follows.

    One that waits for a measure is given ``waits_for`` of what validation measures, before the epoch is saved:
    Lightning gives it one afterwards, so that a checkpoint would lack what it has come to.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        after: LRScheduler | None,
        length: int,
        waits_for: str | None = None,
    ) -> None:  # torch's own would take a first step
        self.optimizer, self.after, self.length, self.waits_for = optimizer, after, length, waits_for
        self.taken = 0
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._set()

    def step(self, epoch: int | None = None) -> None:
        if self.taken < self.length:
            self.taken += 1
            self._set()
        elif self.after is not None and self.waits_for is None:
            self.after.step()

    def measured(self, values: Mapping[str, float]) -> None:
        """Take ``values`` of validation, by name, into account; see :meth:`require`."""
        self.require(values)
        if self.waits_for is not None and self.taken == self.length:
            assert isinstance(self.after, ReduceLROnPlateau)
            self.after.step(values[self.waits_for])

    def require(self, values: Mapping[str, float]) -> None:
        """Refuse ``values`` of validation, by name, without what is waited for.

        Raises:
            ConfigError: naming it.
        """
        if self.waits_for is not None and self.waits_for not in values:
            raise ConfigError(
                f"scheduler: {type(self.after).__name__} waits for {PREFIX}{self.waits_for}, which is not measured on "
                "these validation images; expected callbacks.monitor, such as val/map_at_r"
            )

    def _set(self) -> None:
        """The rates of a warm-up, and when it is over just those that follow."""
        share = 1.0 if self.taken == self.length else (self.taken + 1) / (self.length + 1)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * share

    def get_last_lr(self) -> list[Any]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken, "after": None if self.after is None else self.after.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.taken = state_dict["taken"]
        if self.after is not None:
            self.after.load_state_dict(state_dict["after"])


def schedule(config: Config, optimizer: torch.optim.Optimizer, steps: int | None) -> dict[str, Any] | None:
    """Lightning's description of the scheduler; null ``T_max`` and ``total_steps`` span the run, or what its warm-up
    leaves of it.

    Args:
        steps: of the run, under its epochs; None where they are not known yet.

    Raises:
        ConfigError: for what the scheduler refuses, and for a warm-up as long as the run.
    """
    node, warmup = config.scheduler, config.scheduler.get("warmup")
    if not node.get("_target_") and warmup is None:
        return None
    interval = node["interval"]
    span = _span(config, steps)
    length = warmup or 0 if not isinstance(warmup, float) else max(1, round(warmup * span))
    if steps is None:
        span = max(span, length + 1)
    if length >= span:
        raise ConfigError(f"scheduler.warmup={warmup}: expected fewer than the {span} {interval}s of the run")
    own = OWN_KEYS["scheduler"]
    arguments = {k: v for k, v in node.items() if k not in own}
    arguments |= {k: span - length for k in SPANS if k in node and node[k] is None}
    rates = [group["lr"] for group in optimizer.param_groups]
    own_rate = optimizer.defaults.get("lr", rates[0])
    if "max_lr" in arguments and (len(rates) > 1 or rates[0] != own_rate):  # each peaks in proportion to its rate
        arguments["max_lr"] = [arguments["max_lr"] * rate / own_rate for rate in rates]
    waits_for = measure_of(config)
    if waits_for is not None:
        arguments["mode"] = direction(waits_for)
    scheduler = make("scheduler", arguments, optimizer) if node.get("_target_") else None
    if length or waits_for is not None:
        scheduler = Schedule(optimizer, scheduler, length, waits_for)
    return {"scheduler": scheduler, "interval": interval}


def _span(config: Config, steps: int | None) -> int:
    """The steps or epochs of a run, as the interval of its schedule says."""
    trainer, by_step = config.trainer, config.scheduler["interval"] == "step"
    if steps is None:
        return trainer.max_steps or 100 if by_step else trainer.max_epochs
    epochs = trainer.max_epochs
    if trainer.max_steps is not None and trainer.max_steps < steps:  # what ends by steps is scheduled over these
        steps, epochs = trainer.max_steps, math.ceil(trainer.max_steps * epochs / steps)
    return steps if by_step else epochs


def measure_of(config: Config) -> str | None:
    """What the scheduler of ``config`` waits for, without its prefix: what is monitored by name, or the loss. None for
    one that follows steps or epochs.

    Raises:
        ConfigError: where the direction of the measure is given, for that follows from it.
    """
    node = config.scheduler
    if not node.get("_target_"):
        return None
    target = find_target("scheduler", node["_target_"])
    if not (inspect.isclass(target) and issubclass(target, ReduceLROnPlateau)):
        return None
    name = (config.callbacks.monitor or "loss").removeprefix(PREFIX)
    if "mode" in node:
        raise ConfigError(
            f"scheduler.mode={node['mode']}: follows from what is waited for, {PREFIX}{name}; expected it left out"
        )
    return name
