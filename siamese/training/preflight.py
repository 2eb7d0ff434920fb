"""What a valid configuration can still not do, on this machine or with these images: one line each."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import logging
import pkgutil
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import get_object
from pytorch_lightning.strategies import StrategyRegistry
from torch import Tensor

from siamese.config.schema import Config
from siamese.config.targets import targets
from siamese.config.values import shown
from siamese.data import SiameseData
from siamese.data.augment import make_augmentation
from siamese.data.batch import Tuples
from siamese.data.batches import Kind
from siamese.errors import ConfigError, RunError, nearest
from siamese.losses import Loss, Objective, traits
from siamese.losses.make import make_loss, try_out
from siamese.memory import check_fits
from siamese.paths import CONF
from siamese.runs.directory import RunDirectory
from siamese.runs.read import read_manifest
from siamese.training.build import build_net, make_kind
from siamese.training.groups import make_optimizer
from siamese.training.loggers import RunLogger
from siamese.training.module import SiameseModule
from siamese.training.monitor import check_monitor, check_monitor_with_images
from siamese.training.schedule import schedule

log = logging.getLogger(__name__)

COPIES_IN_TRAINING = 4  # weights, their gradients, and the two moments that Adam keeps of each


def preflight(config: Config) -> None:
    """Check what needs torch, and no images.

    Raises:
        ConfigError: for a logger that is not installed, a measure that cannot be monitored, a device that is not there,
            batches, a loss or an accumulation that do not go together, and values that a loss, the optimizer or the
            scheduler refuses.
    """
    kind = make_kind(config)
    make_augmentation(config.data)
    _check_logger(config)
    _check_callbacks(config)
    check_monitor(config, kind)
    check_device(config)
    _check_network(config)
    _check_optimization(config)
    _check_batches(config, kind)
    _check_loss(config, kind)
    _check_memory(config, kind)


def preflight_with_images(config: Config, module: SiameseModule, data: SiameseData) -> None:
    """Check what needs the images as well.

    Raises:
        ConfigError: for a network that cannot embed images of this size, for too few of them for KoLeo,
            and for a measure of other images.
    """
    _check_image_size(config, module)
    _check_koleo_rows(config, module.objective, data)
    check_monitor_with_images(module, data)


def check_same_data(run: RunDirectory, data: SiameseData) -> None:
    """Refuse to go on with a run on other images, or another split of them, than it began with.

    Raises:
        ConfigError: naming both fingerprints.
    """
    before: dict[str, Any] = read_manifest(run.path)
    now: dict[str, Any] = data.facts()
    for what in ("data", "split"):
        found, expected = now[what]["fingerprint"], before.get(what, {}).get("fingerprint")
        if found != expected:
            counts = [facts.get("data", {}).get("images") for facts in (now, before)]
            images = "" if counts[0] == counts[1] else f": {counts[0]:,} images, {counts[1]:,} when it began"
            raise ConfigError(
                f"resume={run.path}: the {what} of the run has changed{images} "
                f"(fingerprint {found}, expected {expected})"
            )


def _check_logger(config: Config) -> None:
    target = get_object(config.logger["_target_"]) if config.logger.get("_target_") else None
    if not (inspect.isclass(target) and issubclass(target, RunLogger)):
        return
    for package in target.needs:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            raise ConfigError(
                f"logger={target.extra}: {package} is not installed; pip install -e '.[{target.extra}]' installs it"
            ) from None


def _check_callbacks(config: Config) -> None:
    for name, node in config.callbacks.extra.items():
        target = get_object(node["_target_"])
        if inspect.isclass(target) and not issubclass(target, pl.Callback):
            key, found = f"callbacks.extra.{name}._target_", target.__name__
            raise ConfigError(f"{key}={node['_target_']}: expected a Lightning callback, found {found}")


def _check_network(config: Config) -> None:
    """Make the network without its numbers, to know how large it is."""
    node = {name: value for name, value in config.model.items() if name not in ("pretrained", "weights")}
    bare = dataclasses.replace(config, model=node)
    try:
        with torch.device("meta"):
            net = build_net(bare, [0.5] * 3, [0.5] * 3)
    except (ConfigError, RunError):
        raise
    except Exception as error:  # a module of one's own may not know of such a device; then it is made as it is
        log.debug("model: not measured (%s)", error)
        return
    sizes = {name: value for name, value in config.model.items() if isinstance(value, int) and value > 1}
    largest = max(sizes, key=lambda name: sizes[name], default="_target_")
    count = sum(parameter.numel() * parameter.element_size() for parameter in net.parameters())
    what = "weights, their gradients and the optimizer's moments"
    check_fits(f"model.{largest}={config.model[largest]}", COPIES_IN_TRAINING * count, what)


def check_device(config: Config) -> None:
    """Refuse a device, a precision or a strategy that this machine does not have.

    Raises:
        ConfigError: naming what is there.
    """
    device = config.device
    if device.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device.accelerator=cuda: no CUDA device was found here; expected device=auto or device=cpu")
    if device.accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device.accelerator=mps: no Apple GPU was found here; expected device=auto or device=cpu")
    found = torch.cuda.device_count() if device.accelerator == "cuda" else 1 if device.accelerator == "mps" else None
    if found is not None and device.devices > found:
        raise ConfigError(f"device.devices={device.devices}: found {found} of accelerator={device.accelerator} here")
    if device.precision == "16-mixed" and device.accelerator == "cpu":
        raise ConfigError("device.precision=16-mixed: the CPU has no float16 training; expected bf16-mixed or 32-true")
    strategies = ["auto", *StrategyRegistry.available_strategies()]
    if device.strategy not in strategies:
        raise ConfigError(
            f"device.strategy={device.strategy}: expected auto or one of Lightning's strategies"
            f"{nearest(device.strategy, strategies)}"
        )


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
    images = config.data.batch_size * config.device.devices * (kind.images // kind.counted)  # it is called with
    if config.accumulation.mode == "exact":
        images *= config.trainer.accumulate_grad_batches

    def tuples_of(labels: Tensor) -> tuple[Tensor, Tuples]:
        anchors = np.arange(len(labels) // 3)
        triplets = np.stack([anchors, anchors + len(anchors), np.roll(anchors, 1) + 2 * len(anchors)], axis=1)
        return kind.measured(labels.numpy(), triplets, config.seed, "trial")[0]

    try_out(config.loss, tuples_of, images, config.model.get("embedding_dim") or 128)  # null: known once it is built


def _check_memory(config: Config, kind: Kind) -> None:
    """Refuse ``accumulation=memory`` where nothing would look at the references, or something should and cannot."""
    if config.accumulation.mode != "memory":
        return
    objective = config.objective
    if objective.koleo_weight and objective.koleo_over != "all":
        raise ConfigError(
            f"loss.koleo_over={objective.koleo_over}: the references of accumulation=memory have no roles; expected all"
        )
    with torch.random.fork_rng(devices=[]):
        loss = make_loss(config.loss, config.loss.get("num_classes") or 2, config.model.get("embedding_dim") or 128)
    drawn, said = not kind.finds_tuples, traits(loss)
    depends = said.depends(drawn=not kind.tuples_span_batch)
    if said.takes_references(drawn=drawn) or (objective.koleo_weight and not depends):
        return
    named = {file.stem: yaml.safe_load(file.read_text()).get("_target_") for file in (CONF / "loss").glob("*.yaml")}
    classes = {name: pkgutil.resolve_name(path) for name, path in named.items() if path}
    able = [name for name, cls in classes.items() if issubclass(cls, Loss) and not cls.uses_tuples]
    raise ConfigError(
        f"accumulation.mode=memory: {config.loss['_target_']} cannot take reference embeddings with "
        f"batches={kind.form}; expected loss={'|'.join(sorted(able))}, a loss.miner, batches=balanced, "
        "or a loss of single tuples or images with loss.koleo_weight above 0"
    )


def _check_image_size(config: Config, module: SiameseModule) -> None:
    size = config.data.image_size
    try:
        with torch.no_grad():
            copy.deepcopy(module.net).eval()(torch.zeros(1, 3, *config.data.size, dtype=torch.uint8))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"data.image_size={size}: {config.model['_target_']} cannot embed images of this size ({reason})"
        ) from None


def _check_koleo_rows(config: Config, objective: Objective, data: SiameseData) -> None:
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
