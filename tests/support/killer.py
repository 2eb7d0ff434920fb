"""Places at which a run of train.py can be made to die, and a network that is as random as a network
can be."""

from __future__ import annotations

import functools
import importlib
import io
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from siamese.models import conv_small


class Noise(nn.Module):
    """Draws from the global generators of torch, NumPy and Python while training."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        shift = torch.tensor([np.random.normal(0, 0.1), random.gauss(0, 0.1)]).to(x)
        return torch.dropout(x, 0.1, train=True) + shift.repeat(x.shape[1] // 2)[:, None, None]


@functools.wraps(conv_small)
def noisy_conv_small(*mean_and_std: Any, **options: Any) -> nn.Module:
    """conv_small with :class:`Noise` before its last layer."""
    net = conv_small(*mean_and_std, **options)
    net.backbone = nn.Sequential(net.backbone, Noise())
    return net


Condition = Callable[..., bool]
BEFORE, AFTER = "before", "after"


def _renaming(name: str) -> Condition:
    return lambda source, target: Path(target).name == name


def _doing(what: str) -> Condition:
    """In the module's steps: the trainer is at ``what``."""

    def condition(module: Any, *_: Any) -> bool:
        trainer = module.trainer
        return what == ("epoch 0" if trainer.sanity_checking else trainer.state.fn.value)

    return condition


def _always(*_: Any, **__: Any) -> bool:
    return True


# name: what is called (module, dotted name), whether to die before or after, and which calls count
PLACES: dict[str, tuple[str, str, str, Condition]] = {
    "before the samples": ("siamese.training.run", "show_samples", BEFORE, _always),
    "in the validation of epoch 0": (
        "siamese.training.module",
        "SiameseModule.validation_step",
        BEFORE,
        _doing("epoch 0"),
    ),
    "before a training step": ("siamese.training.module", "SiameseModule.training_step", BEFORE, _always),
    "after a micro-batch": ("siamese.training.checkpoints", "Checkpoints.on_train_batch_end", AFTER, _always),
    "in a validation": ("siamese.training.module", "SiameseModule.validation_step", BEFORE, _doing("fit")),
    "after a row": ("siamese.runs.directory", "RunDirectory.add_epoch", AFTER, _always),
    "after an epoch": (
        "siamese.training.checkpoints",
        "Checkpoints.on_validation_end",
        AFTER,
        lambda _, trainer, __: _doing("fit")(trainer.lightning_module),
    ),
    "before a rename": ("os", "replace", BEFORE, _always),
    "after a rename": ("os", "replace", AFTER, _always),
    "before last.ckpt is renamed": ("os", "replace", BEFORE, _renaming("last.ckpt")),
    "after last.ckpt is renamed": ("os", "replace", AFTER, _renaming("last.ckpt")),
    "before best.ckpt is renamed": ("os", "replace", BEFORE, _renaming("best.ckpt")),
    "after best.ckpt is renamed": ("os", "replace", AFTER, _renaming("best.ckpt")),
    "in the final validation": ("siamese.training.module", "SiameseModule.validation_step", BEFORE, _doing("validate")),
    "in the final test": ("siamese.training.module", "SiameseModule.test_step", BEFORE, _doing("test")),
    "before the summary": ("siamese.runs.directory", "RunDirectory.summary", BEFORE, _always),
    "after the summary": ("siamese.runs.directory", "RunDirectory.summary", AFTER, _always),
}


def die_at(place: str, nth: int, number: int) -> None:
    """Have this process send itself ``number`` when it is at ``place`` for the ``nth`` time."""
    if place == "half-way through a checkpoint":
        return _die_writing(nth, number)
    module, dotted, when, counts = PLACES[place]
    owner: Any = importlib.import_module(module)
    *path, name = dotted.split(".")
    for part in path:
        owner = getattr(owner, part)
    wrapped, seen = getattr(owner, name), 0

    def wrapper(*args: Any, **keywords: Any) -> Any:
        nonlocal seen
        here = counts(*args, **keywords)
        seen += here
        if when == BEFORE and here and seen == nth:
            os.kill(os.getpid(), number)
        result = wrapped(*args, **keywords)
        if when == AFTER and here and seen == nth:
            os.kill(os.getpid(), number)
        return result

    setattr(owner, name, wrapper)
    return None


def _die_writing(nth: int, number: int) -> None:
    save, seen = torch.save, 0

    def half(checkpoint: Any, file: Any) -> None:
        nonlocal seen
        seen += 1
        if seen < nth:
            save(checkpoint, file)
            return
        whole = io.BytesIO()
        save(checkpoint, whole)
        file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        file.flush()
        os.kill(os.getpid(), number)

    torch.save = half
