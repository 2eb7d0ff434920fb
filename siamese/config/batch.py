"""The batch of one optimizer step, ``data.effective_batch_size``, and the cuts of it into micro-batches."""

from __future__ import annotations

import dataclasses

from siamese.config.schema import Config
from siamese.errors import ConfigError

AUTO = "auto"


def with_window(config: Config) -> Config:
    """``config`` with the window that follows from ``data.effective_batch_size``; as it is where there is none, or
    where the micro-batch is still to be found.

    Raises:
        ConfigError: for sizes that do not divide, and for a key that says again, or otherwise, what follows.
    """
    data, window, devices = config.data, config.trainer.accumulate_grad_batches, config.device.ranks
    size, whole = data.batch_size, data.effective_batch_size
    if size is None:
        raise ConfigError("data.batch_size=null: expected a whole number from 1, or auto")
    if whole is None:
        if size == AUTO:
            raise ConfigError(
                "data.batch_size=auto: it is cut from the batch of a step; expected data.effective_batch_size=N, "
                "or a number"
            )
        return config
    if size == AUTO:
        _check_auto(config)
        return config
    if whole % (size * devices):
        below = whole - whole % (size * devices)
        nearby = " or ".join(str(n) for n in (below, below + size * devices) if n)
        raise ConfigError(
            f"data.effective_batch_size={whole}: expected a multiple of data.batch_size={size}"
            f"{f' × {devices} devices' * (devices > 1)}, such as {nearby}"
        )
    follows = whole // (size * devices)
    if window not in (1, follows):
        raise ConfigError(
            f"trainer.accumulate_grad_batches={window}: data.effective_batch_size={whole} with data.batch_size={size} "
            f"makes it {follows}; expected one of the two to be left out"
        )
    return cut(config, size)


def _check_auto(config: Config) -> None:
    """Refuse what has no meaning while the micro-batch is not known."""
    window, limit = config.trainer.accumulate_grad_batches, config.trainer.limit_train_batches
    whole, devices = config.data.effective_batch_size, config.device.ranks
    if window != 1:
        raise ConfigError(
            f"trainer.accumulate_grad_batches={window}: with data.batch_size=auto the window is found; "
            "expected it to be left out"
        )
    if whole is not None and whole % devices:
        raise ConfigError(f"data.effective_batch_size={whole}: expected a multiple of the {devices} devices")
    if limit != 1.0:
        raise ConfigError(
            f"trainer.limit_train_batches={limit}: it counts micro-batches, whose size data.batch_size=auto finds; "
            "expected 1.0, or a number for data.batch_size"
        )
    if config.accumulation.mode == "memory":
        raise ConfigError(
            "accumulation.mode=memory: what it remembers follows from the cut, which data.batch_size=auto leaves to "
            "the machine; expected accumulation=exact or accumulation=naive, or a number for data.batch_size"
        )


def cut(config: Config, size: int) -> Config:
    """``config`` with micro-batches of ``size``, and the window that makes the batch of a step of them."""
    whole = config.data.effective_batch_size
    assert whole is not None
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, batch_size=size),
        trainer=dataclasses.replace(config.trainer, accumulate_grad_batches=whole // (size * config.device.ranks)),
    )


def cuts(config: Config, counted: int) -> list[Config]:
    """Every cut of the batch of a step into micro-batches that are alike, smallest first; with groups of ``counted``
    images each micro-batch is of at least two of them.

    Raises:
        ConfigError: where there is none.
    """
    whole, devices = config.data.effective_batch_size, config.device.ranks
    assert whole is not None
    least = 2 * counted if counted > 1 else 1
    share = whole // devices
    sizes = [size for size in range(least, share + 1) if share % size == 0 and size % counted == 0]
    if not sizes:
        raise ConfigError(
            f"data.effective_batch_size={whole}: expected a multiple of {least * devices}, for a micro-batch is of at "
            f"least 2 groups of {counted} images"
        )
    return [cut(config, size) for size in sizes]
