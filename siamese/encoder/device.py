"""What an encoder computes on, and in which precision."""

from __future__ import annotations

import dataclasses

import torch

from siamese.config.schema import RANGES, Config
from siamese.errors import ConfigError, nearest
from siamese.training.precision import precision_of
from siamese.training.preflight import check_device
from siamese.training.restored import accelerator_here, fitted


def fitted_to(config: Config, device: str | None, precision: str | None) -> tuple[Config, torch.device]:
    """The configuration of a run for the ``device`` and the ``precision`` that are asked for, or for its own as far as
    they are here; and that device.

    Raises:
        ConfigError: for a device or a precision that there is not.
    """
    if precision is not None:
        _check("precision", "device.precision", precision)
    own = dataclasses.replace(config.device, devices=1, strategy="auto")
    own = dataclasses.replace(own, precision="32-true") if precision else own  # what is not used is not complained of
    place = None
    if device is not None:
        place = _place(device)
        own = dataclasses.replace(own, accelerator=place.type)
        check_device(dataclasses.replace(config, device=dataclasses.replace(own, precision="32-true")))
    config = fitted(dataclasses.replace(config, device=own))
    own = dataclasses.replace(config.device, accelerator=accelerator_here(config.device.accelerator))
    own = dataclasses.replace(own, precision=precision or own.precision)
    config = dataclasses.replace(config, device=own)
    config = dataclasses.replace(config, device=dataclasses.replace(own, precision=precision_of(config)))
    check_device(config)
    return config, place or torch.device(own.accelerator)


def _place(device: str) -> torch.device:
    head, _, number = device.partition(":")
    if head != "cuda" or not number.isdecimal():
        _check("device", "device.accelerator", device)
        return torch.device(accelerator_here(device))
    if int(number) >= torch.cuda.device_count():
        raise ConfigError(f"device={device}: found {torch.cuda.device_count()} CUDA devices here")
    return torch.device(device)


def _check(name: str, key: str, value: str) -> None:
    fits, words = RANGES[key]
    if not fits(value):
        choices = words.removeprefix("one of ").split(", ")
        raise ConfigError(f"{name}={value}: expected {words}{nearest(value, choices)}")
