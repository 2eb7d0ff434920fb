"""The micro-batch of ``data.batch_size=auto``: the largest that a device has the memory for."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siamese.config.batch import AUTO, cut, cuts
from siamese.config.schema import Config
from siamese.data import LabelledImages, SiameseData
from siamese.errors import ConfigError, RunError
from siamese.losses import Objective
from siamese.runs.read import read_config
from siamese.training.build import build, make_kind, split_data
from siamese.training.check_cut import check_cut, check_koleo_rows
from siamese.training.random_state import random_state, restore_random_state
from siamese.training.roles import follows
from siamese.training.trial import budget, measure

log = logging.getLogger(__name__)

FIRST = 8  # the micro-batch that is tried first, or the largest below


def fit_batch(config: Config, source: LabelledImages, directory: Path) -> tuple[Config, SiameseData, dict[str, Any]]:
    """``config`` with the micro-batch and window that ``data.batch_size=auto`` is on this device, the data in those
    micro-batches, and what the manifest says of them. Without ``auto`` the configuration is left as it is.

    Args:
        directory: of the run; where another process leads it, its sizes are there.

    Raises:
        ConfigError: where even the smallest micro-batch takes too much, or none is allowed.
    """
    facts: dict[str, Any] = {}
    if config.data.batch_size != AUTO:
        data = split_data(config, source)
    elif follows():
        config = cut(config, read_config(directory, f"{directory}").data.batch_size)
        data = split_data(config, source)
    else:
        random = random_state()
        config, data, facts = _search(config, source)
        restore_random_state(random)  # the network is drawn as it is without a search
    size, window, devices = config.data.batch_size, config.trainer.accumulate_grad_batches, config.device.ranks
    return config, data, {"micro_batch": size, "window": window, "effective": size * window * devices, **facts}


def _search(config: Config, source: LabelledImages) -> tuple[Config, SiameseData, dict[str, Any]]:
    every = cuts(config, make_kind(config).counted)
    data = split_data(every[0], source)
    objective = build(every[0], data).objective
    allowed = {one.data.batch_size: one for one in _allowed(every, data, objective)}
    most, tried = budget(config), {}

    def fits(size: int) -> bool:
        taken, enough = measure(allowed[size], data.recut(size, 1), most)
        tried[size] = {"micro_batch": size, "gb": round(taken / 1e9, 4), "fits": enough}
        log.debug("data.batch_size=auto: %s", tried[size])
        return enough

    found = largest_that_fits(sorted(allowed), fits)
    if found is None:
        size, taken = min(allowed), tried[min(allowed)]["gb"]
        raise ConfigError(
            f"data.batch_size=auto: even a micro-batch of {size} takes {taken:.3g} GB or more, and "
            f"{_said(config, most)}; expected a larger device.memory_budget, a smaller model or a smaller "
            "data.image_size"
        )
    log.info(
        "data.batch_size=auto: micro-batch %d, which takes %.3g GB; %s",
        *(found, tried[found]["gb"], _said(config, most)),
    )
    if config.accumulation.mode == "naive" and objective.batch_dependent:
        log.warning(
            "data.batch_size=auto: the loss looks at its whole micro-batch, and how large that is depends on this "
            "machine; with accumulation=exact the result does not"
        )
    facts = {"budget_gb": round(most / 1e9, 4), "tried": list(tried.values())}
    return allowed[found], data.recut(found, config.device.ranks), facts


def _said(config: Config, most: int) -> str:
    asked = config.device.memory_budget
    return f"{most / 1e9:.3g} GB can be had" if asked is None else f"device.memory_budget={asked:g}"


def _allowed(every: Sequence[Config], data: SiameseData, objective: Objective) -> list[Config]:
    """Those of ``every`` cut that the batches, the loss and the data can do with.

    Raises:
        ConfigError: why the largest is not allowed, where none is.
    """
    allowed, why = [], ConfigError("")
    with _silent():
        for one in every:
            try:
                check_cut(one, data.kind)
                recut = data.recut(one.data.batch_size, one.device.ranks)
                check_koleo_rows(one, objective, recut)
                allowed.append(one)
            except (ConfigError, RunError) as error:
                why = ConfigError(f"{error}")
    if not allowed:
        raise why
    return allowed


@contextmanager
def _silent() -> Iterator[None]:
    """What is said of a batch is said once, of the one that is found."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def largest_that_fits(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """The largest of ``sizes``, ascending, that ``fits``, found by doubling and halving; None where none does.
    A size is asked about once, and what fits is taken to do so at any smaller size."""
    low, high = -1, len(sizes)  # the largest known to fit, the smallest known not to
    at = max(0, bisect_right(sizes, FIRST) - 1)
    while high - low > 1:
        if fits(sizes[at]):
            low = at
        else:
            high = at
        if high == len(sizes):
            at = max(low + 1, bisect_right(sizes, 2 * sizes[low]) - 1)
        elif low == -1:
            at = max(0, bisect_right(sizes, sizes[high] // 2) - 1)
        else:
            at = (low + high) // 2
    return sizes[low] if low >= 0 else None
