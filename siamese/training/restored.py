"""A network with the weights of a checkpoint, on whatever machine this is."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from siamese.config.schema import Config
from siamese.errors import ConfigError
from siamese.models.embedding import EmbeddingNet
from siamese.runs.checkpoint import restore
from siamese.training.build import build_net, without_start
from siamese.training.preflight import check_device

log = logging.getLogger(__name__)


def fitted(config: Config) -> Config:
    """``config`` for one device of this machine, and without weights to start from: a checkpoint has its own. What the
    run had and is not here is said in the log."""
    config = without_start(config)
    device = dataclasses.replace(config.device, devices=1, strategy="auto")
    try:
        check_device(dataclasses.replace(config, device=dataclasses.replace(device, precision="32-true")))
    except ConfigError:
        log.warning("device: there is no %s here, as the run had; going on with what there is", device.accelerator)
        device = dataclasses.replace(device, accelerator="auto")
    if device.precision == "16-mixed" and accelerator_here(device.accelerator) == "cpu":
        log.warning("device: the CPU has no 16-mixed, as the run had; going on in 32-true")
        device = dataclasses.replace(device, precision="32-true")
    return dataclasses.replace(config, device=device)


def accelerator_here(name: str) -> str:
    """What ``device.accelerator`` comes to on this machine: cuda, mps or cpu."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def restored_net(config: Config, checkpoint: Path, run_id: str) -> tuple[EmbeddingNet, int]:
    """The network of a ``fitted`` configuration with the weights of ``checkpoint``, which is of the run ``run_id``, and
    the whole epochs that they were trained for.

    Raises:
        ConfigError: for a model that cannot be made.
        RunError: when there is no such checkpoint, it cannot be read, or it is of another architecture or run.
    """
    net = build_net(config, mean=[0.5] * 3, std=[0.5] * 3)  # both are in the checkpoint
    return net, restore(net, checkpoint, prefix="net.", run_id=run_id)
