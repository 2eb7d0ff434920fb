"""What there is to know of an option of conf/model, and a table of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from hydra import compose, initialize_config_dir
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from siamese.config.schema import Config
from siamese.config.targets import check_targets
from siamese.config.validate import validate
from siamese.errors import ConfigError, RunError
from siamese.models import EmbeddingNet
from siamese.paths import CONF
from siamese.training.build import build_net, without_start

log = logging.getLogger(__name__)


class Stage(NamedTuple):
    """A part of a network: its ``shape`` is what it makes of one image, without the image's own dimension."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int


class Described(NamedTuple):
    """A network for one image: ``flop`` operations, an addition and a multiplication being two."""

    name: str
    parameters: int
    flop: int
    stages: list[Stage]


def show(names: Sequence[str], words: Sequence[str]) -> None:
    """Print a table of the options ``names`` of conf/model under ``words``; of one alone, one of its stages too.

    Raises:
        ConfigError: for what cannot be composed or made, and for images of a size that a network cannot embed.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = {name: validate(compose("train", ["name=table", f"model={name}", *words])) for name in names}
    rows = [describe(name, config) for name, config in configs.items()]
    height, width = next(iter(configs.values())).data.size
    console = Console()
    if len(rows) == 1:
        console.print(_stages(rows[0]))
    console.print(_table(rows, f"an image of {height}x{width} pixels"))


def describe(name: str, config: Config) -> Described:
    """What the network of ``config``, which goes by ``name``, makes of an image, and at what cost.

    Raises:
        ConfigError: see :func:`show`.
    """
    check_targets(config)
    try:
        return _measured(name, config, "meta")
    except (ConfigError, RunError):
        raise
    except Exception as error:  # one that knows of no such device is made as it is; so is one that refuses the size
        log.debug("%s: not measured without its numbers (%s)", name, error)
    try:
        return _measured(name, config, "cpu")
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"data.image_size={config.data.image_size}: model={name} cannot embed images of this size ({reason})"
        ) from None


def _measured(name: str, config: Config, device: str) -> Described:
    """The network made on ``device``; on ``meta`` without its numbers, which takes no time and no memory."""
    stages: list[Stage] = []
    with torch.device(device):
        net = build_net(without_start(config), [0.5] * 3, [0.5] * 3).eval()
        _watch(net, stages)
        # With gradients: without, torch takes attention by a path whose operations are not counted.
        with FlopCounterMode(display=False) as counter:
            features = net.backbone(torch.zeros(1, 3, *config.data.size))
            net.projection(features.mean((2, 3)) if features.dim() == 4 else features)
    count = sum(p.numel() for p in net.parameters())
    return Described(name, count, counter.get_total_flops(), stages)


def _watch(net: EmbeddingNet, stages: list[Stage]) -> None:
    """Let ``stages`` gather what each child of the backbone, and then the projection, makes of an image."""

    def note(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                count = sum(p.numel() for p in module.parameters())
                stages.append(Stage(name, type(module).__name__, tuple(output.shape[1:]), count))

        module.register_forward_hook(hook)

    for name, child in net.backbone.named_children():
        note(name, child)
    note("projection", net.projection)


def _stages(row: Described) -> Table:
    found = Table(title=row.name, title_justify="left", box=None)
    for column in ("stage", "layer"):
        found.add_column(column, overflow="fold")
    found.add_column("shape", justify="right")
    found.add_column("parameters", justify="right")
    for stage in row.stages:
        shape = "×".join(map(str, stage.shape))
        found.add_row(escape(stage.name), escape(stage.kind), shape, f"{stage.parameters:,}")
    found.add_section()
    return found


def _table(rows: Sequence[Described], title: str) -> Table:
    found = Table(title=title, title_justify="left", box=None)
    found.add_column("model", overflow="fold")
    for column in ("parameters", "GFLOP", "embedding"):
        found.add_column(column, justify="right")
    for row in rows:
        found.add_row(
            escape(row.name), f"{row.parameters:,}", f"{row.flop / 1e9:.3g}", "×".join(map(str, row.stages[-1].shape))
        )
    return found
