"""What a valid configuration can still not do, on this machine or with these images: one line each."""

from __future__ import annotations

import copy
import importlib
import inspect
import logging
import pkgutil

import pytorch_lightning as pl
import torch
import yaml
from hydra.utils import get_object
from pytorch_lightning.strategies import StrategyRegistry

from siamese.config.batch import AUTO, cuts
from siamese.config.schema import Config
from siamese.data import SiameseData
from siamese.data.augment import make_augmentation
from siamese.data.batches import Kind
from siamese.errors import ConfigError, RunError, nearest
from siamese.losses import Loss, traits
from siamese.losses.make import make_loss
from siamese.memory import check_fits
from siamese.paths import CONF
from siamese.training.build import build_net, make_kind, without_start
from siamese.training.check_cut import check_cut, check_koleo_rows
from siamese.training.loggers import RunLogger
from siamese.training.module import SiameseModule
from siamese.training.monitor import check_monitor, check_monitor_with_images
from siamese.training.roles import launched
from siamese.training.trial import check_measurable

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
    _check_ranks(config)
    if config.data.batch_size == AUTO:
        check_measurable(config)
        config = cuts(config, kind.counted)[-1]  # the one that most is possible with; the others have their turn
    make_augmentation(config.data)
    _check_logger(config)
    _check_callbacks(config)
    check_monitor(config, kind)
    check_device(config)
    _check_network(config)
    check_cut(config, kind)
    _check_memory(config, kind)


def preflight_with_images(config: Config, module: SiameseModule, data: SiameseData) -> None:
    """Check what needs the images as well.

    Raises:
        ConfigError: for a network that cannot embed images of this size, for too few of them for KoLeo,
            and for a measure of other images.
    """
    _check_image_size(config, module)
    check_koleo_rows(config, module.objective, data)
    check_monitor_with_images(module, data)


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
    try:
        with torch.device("meta"):
            net = build_net(without_start(config), [0.5] * 3, [0.5] * 3)
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


def _check_ranks(config: Config) -> None:
    """Refuse other processes than torchrun or srun has started."""
    device, found = config.device, launched()
    if found is None and device.num_nodes > 1:
        raise ConfigError(
            f"device.num_nodes={device.num_nodes}: expected to be started on every machine by torchrun "
            f"(torchrun --nnodes={device.num_nodes} --nproc-per-node={device.devices} ... train.py ...) or by srun"
        )
    if found is not None and found.ranks != device.ranks:
        raise ConfigError(
            f"device.devices={device.devices} device.num_nodes={device.num_nodes}: expected {device.ranks} processes, "
            f"found {found.ranks} started by {found.by}"
        )
    if found is not None and config.data.batch_size == AUTO:
        raise ConfigError(f"data.batch_size=auto: under {found.by} no process searches for all; expected a number")


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
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"data.image_size={size}: {config.model['_target_']} cannot embed images of this size ({reason})"
        ) from None
