"""The parameters that the optimizer trains, in groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from siamese.config.schema import OWN_KEYS
from siamese.config.targets import make
from siamese.errors import ConfigError
from siamese.models import EmbeddingNet
from siamese.models.layers import layers

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


def trained(
    net: nn.Module,
    objective: nn.Module,
    loss_lr: float | None,
    backbone_lr: float | None = None,
    layer_decay: float | None = None,
) -> Groups:
    """What the optimizer trains: ``net``, and a loss's own parameters, such as proxies, with their own rate.

    Args:
        loss_lr: of the loss's parameters; None is the optimizer's.
        backbone_lr: of the backbone of ``net``, an :class:`EmbeddingNet`; None is the optimizer's.
        layer_decay: the rate of a layer of the backbone, as a share of that of the layer behind it (Clark et al. 2020,
            ELECTRA, section 3.1); the last has ``backbone_lr``. None is 1.

    Raises:
        ConfigError: where nothing but the backbone is trained, and so nothing has the optimizer's own rate.
    """
    own = list(objective.parameters())
    rate = {} if loss_lr is None else {"lr": loss_lr}
    of_loss: Groups = [{"params": own, **rate}] if own else []
    if backbone_lr is None:
        return [{"params": list(net.parameters())}, *of_loss]
    assert isinstance(net, EmbeddingNet)
    deep = [list(net.backbone.parameters())] if layer_decay is None else layers(net.backbone)
    rates = [backbone_lr * (layer_decay or 1) ** depth for depth in reversed(range(len(deep)))]
    others = list(net.projection.parameters())
    if not others and not own and layer_decay is None:
        raise ConfigError(
            f"optimizer.backbone_lr={backbone_lr}: with model.embedding_dim=null and this loss nothing but the "
            "backbone is trained; expected null, and that rate as optimizer.lr"
        )
    of_backbone = [{"params": some, "lr": one} for some, one in zip(deep, rates, strict=True) if some]
    return [*([{"params": others}] if others else []), *of_backbone, *of_loss]


def rate_of_backbone(node: Mapping[str, Any]) -> float | None:
    """The learning rate of the backbone's last layer under the optimizer that ``node`` names; None where the whole
    network has one rate.

    Raises:
        ConfigError: where there is none to start from.
    """
    if node.get("backbone_lr") is not None or node.get("layer_decay") is None:
        return node.get("backbone_lr")
    if "lr" not in node:
        raise ConfigError(
            f"optimizer.layer_decay={node['layer_decay']}: expected optimizer.lr or optimizer.backbone_lr, which the "
            "last layer has; found neither"
        )
    return float(node["lr"])
