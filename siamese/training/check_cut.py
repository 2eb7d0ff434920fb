"""What a cut of a step's batch into micro-batches can not do: one line each."""

from __future__ import annotations

import inspect

import numpy as np
import torch
from torch import Tensor

from siamese.config.schema import Config
from siamese.config.targets import targets
from siamese.config.values import shown
from siamese.data import SiameseData
from siamese.data.batch import Tuples
from siamese.data.batches import Kind
from siamese.errors import ConfigError, nearest
from siamese.losses import Objective
from siamese.losses.make import try_out
from siamese.paths import CONF
from siamese.training.groups import make_optimizer
from siamese.training.schedule import schedule


def check_cut(config: Config, kind: Kind) -> None:
    """Check what depends on how the batch of a step is cut into micro-batches.

    Raises:
        ConfigError: for batches and a loss that do not go together, and values that the loss, the optimizer or the
            scheduler refuses.
    """
    _check_optimization(config)
    _check_batches(config, kind)
    _check_loss(config, kind)


def _check_optimization(config: Config) -> None:
    """Make the optimizer and its schedule of one parameter, so that what they refuse is known early."""
    optimizer = make_optimizer(config.optimizer, [{"params": [torch.nn.Parameter(torch.zeros(1, 1))]}])
    if not isinstance(optimizer, torch.optim.Optimizer):
        path, found = config.optimizer["_target_"], type(optimizer).__name__
        raise ConfigError(f"optimizer._target_={path}: expected what makes a torch.optim.Optimizer, found {found}")
    window, mode = config.trainer.accumulate_grad_batches, config.accumulation.mode
    evaluates_again = inspect.signature(type(optimizer).step).parameters["closure"].default is inspect.Parameter.empty
    if evaluates_again and (mode != "naive" or window > 1):
        raise ConfigError(
            f"optimizer._target_={config.optimizer['_target_']}: it evaluates each step several times, and the "
            f"micro-batches of a window pass once; with accumulation={mode} and trainer.accumulate_grad_batches="
            f"{window} expected an optimizer that evaluates a step once"
        )
    schedule(config, optimizer, steps=None)


def _check_batches(config: Config, kind: Kind) -> None:
    """Refuse a batch that groups do not divide, and what needs triplets where there are none."""
    size, objective = config.data.batch_size, config.objective
    if config.data.split == "article" and not kind.has_roles:
        raise ConfigError(
            f"batches={kind.form}: data.split=article splits the article's own triplets; expected batches=triplets"
        )
    if kind.counted > 1 and (size % kind.counted or size < 2 * kind.counted):
        raise ConfigError(
            f"data.batch_size={size}: expected a multiple of {kind.counted}, the {kind.unit} of each of its "
            f"{kind.item.replace('_', ' ')}, and at least {2 * kind.counted}"
        )
    if not kind.has_roles and objective.koleo_over != "all":
        raise ConfigError(
            f"loss.koleo_over={objective.koleo_over}: only triplets have these roles; "
            f"expected all, or batches=triplets (found batches={kind.form})"
        )
    known = sorted(file.stem for file in (CONF / "batches").glob("*.yaml"))
    for key, node in targets("loss", config.loss):
        usable = node.get("batches")
        if usable is None:
            continue
        strange = [name for name in usable if name not in (*known, kind.form)] if isinstance(usable, list) else [usable]
        if strange:
            raise ConfigError(
                f"{key}.batches={shown(usable)}: expected a list of {', '.join(known)}{nearest(str(strange[0]), known)}"
            )
        if kind.form not in usable:
            name = str(node["_target_"]).rpartition(".")[2]
            raise ConfigError(
                f"batches={kind.form}: {name} ({key}) cannot use it; expected "
                + " or ".join(f"batches={name}" for name in usable)
            )


def _check_loss(config: Config, kind: Kind) -> None:
    images = config.data.batch_size * config.device.ranks * (kind.images // kind.counted)  # it is called with
    if config.accumulation.mode == "exact":
        images *= config.trainer.accumulate_grad_batches

    def tuples_of(labels: Tensor) -> tuple[Tensor, Tuples]:
        anchors = np.arange(len(labels) // 3)
        triplets = np.stack([anchors, anchors + len(anchors), np.roll(anchors, 1) + 2 * len(anchors)], axis=1)
        return kind.measured(labels.numpy(), triplets, config.seed, "trial")[0]

    try_out(config.loss, tuples_of, images, config.model.get("embedding_dim") or 128)  # null: known once it is built


def check_koleo_rows(config: Config, objective: Objective, data: SiameseData) -> None:
    """Refuse a micro-batch or a validation in which KoLeo would have too few rows, before it comes up."""
    if not objective.koleo_weight:
        return
    seen = min(config.evaluation.koleo_embeddings, *(len(data.parts[part]) for part in ("validation", "test")))
    if seen <= objective.koleo.neighbours:
        raise ConfigError(
            f"loss.koleo_neighbours={objective.koleo.neighbours}: expected fewer than the {seen} embeddings "
            "that validation measures KoLeo on"
        )
    size, together = data.loader.batch_size, "micro-batch"
    if config.accumulation.mode == "exact":
        size, together = size * config.trainer.accumulate_grad_batches, "window"
    items = len(data.loader) * data.loader.batch_size if data.kind.counted > 1 else data.loader.items
    last = items % size or size
    rows = data.layout.images * last if objective.koleo.over == "all" else last
    if rows <= objective.koleo.neighbours:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size}: the last {together} of an epoch has {last} {data.kind.item}, "
            f"too few for loss.koleo_over={objective.koleo.over} with "
            f"loss.koleo_neighbours={objective.koleo.neighbours}"
        )
