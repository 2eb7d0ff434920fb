"""The parameters that the optimizer trains, in groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from siamese.config.schema import OWN_KEYS
from siamese.config.targets import make
from siamese.errors import ConfigError

Groups = list[dict[str, Any]]


def make_optimizer(node: Mapping[str, Any], groups: Groups) -> torch.optim.Optimizer:
    """The optimizer that ``node`` names, of ``groups``; under ``decay: weights`` each is cut in two, and its biases and
    the scales of its norms (what has one dimension) have no weight decay.

    Raises:
        ConfigError: for what the optimizer refuses, and for one that has no weight decay to leave away.
    """
    arguments = {name: value for name, value in node.items() if name not in OWN_KEYS["optimizer"]}
    if node.get("decay") == "weights":
        if "weight_decay" not in arguments:
            raise ConfigError(
                f"optimizer.decay=weights: {node['_target_']} is given no optimizer.weight_decay; expected one, or "
                "optimizer.decay=all"
            )
        groups = [part for group in groups for part in cut(group)]
    plain = len(groups) == 1 and groups[0].keys() == {"params"}
    given = groups[0]["params"] if plain else groups  # all that an optimizer of one's own may expect
    optimizer: torch.optim.Optimizer = make("optimizer", arguments, given)
    return optimizer


def cut(group: Mapping[str, Any]) -> Groups:
    """``group`` as those of its parameters that have two dimensions or more, and the others without weight decay."""
    weights: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in group["params"]:
        (weights if parameter.dim() > 1 else others).append(parameter)
    parts = [{**group, "params": weights}, {**group, "params": others, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


def trained(net: nn.Module, objective: nn.Module, loss_lr: float | None) -> Groups:
    """What the optimizer trains: ``net``, and a loss's own parameters, such as proxies, with their own rate."""
    own = list(objective.parameters())
    rate = {} if loss_lr is None else {"lr": loss_lr}
    return [{"params": list(net.parameters())}, *([{"params": own, **rate}] if own else [])]
