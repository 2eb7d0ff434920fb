"""The objects that a configuration describes: network, objective, module, trainer."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy, Strategy

from siamese.config.schema import Config
from siamese.config.targets import find_target, make, parameters
from siamese.data import LabelledImages, SiameseData
from siamese.data.batches import Kind
from siamese.data.draws import generator
from siamese.data.images import pixels
from siamese.errors import ConfigError
from siamese.losses import KoLeo, Objective
from siamese.losses.make import make_loss, weighs_classes
from siamese.models import Whitening
from siamese.models.embedding import EmbeddingNet, features_of
from siamese.runs.directory import RunDirectory
from siamese.training.accumulation import Accumulation, Exact, Memory, Naive
from siamese.training.averaging import make_averaging
from siamese.training.checkpoints import AtomicCheckpointIO, Checkpoints, Least
from siamese.training.gradient_study.meter import GradientMeter
from siamese.training.groups import make_optimizer, rate_of_backbone
from siamese.training.limits import Limits
from siamese.training.module import SiameseModule
from siamese.training.monitor import PREFIX, term_name
from siamese.training.parts import EveryEpochs
from siamese.training.precision import precision_of, processor
from siamese.training.progress import ProgressBar, ProgressLines
from siamese.training.recorder import Recorder
from siamese.training.schedule import schedule
from siamese.training.signals import StopRequest
from siamese.training.thawing import Thawing

WHITENING_IMAGES = 5000  # whose patches, a thousand each, say more than enough of a few dozen numbers


def make_kind(config: Config) -> Kind:
    """The kind of batches that ``config`` names.

    Raises:
        ConfigError: for a target that is none.
    """
    kind = make("batches", config.batches)
    if not isinstance(kind, Kind):
        raise ConfigError(
            f"batches._target_={config.batches['_target_']}: expected a siamese.data.batches.Kind, "
            f"found {type(kind).__name__}"
        )
    return kind


def split_data(config: Config, source: LabelledImages) -> SiameseData:
    """``source`` split and made into tuples as ``config`` says."""
    data = SiameseData(source, config.data, config.seed, make_kind(config), config.device.ranks)
    if config.trainer.overfit_batches is not None:
        data.loader.epoch = lambda: 0  # the same tuples, in the same order, changed alike
    return data


def build_net(config: Config, mean: Sequence[float], std: Sequence[float]) -> EmbeddingNet:
    """The network that ``config`` describes, for images of that ``mean`` and ``std`` a channel.

    A module of one's own that is no :class:`EmbeddingNet` becomes the backbone of one: it gets normalised images,
    float [N, 3, H, W], and what it returns, [N, D] or [N, D, h, w], is brought to length 1.

    Raises:
        ConfigError: for a target that makes no module, or one that does not return that.
    """
    path, size = config.model["_target_"], config.data.image_size
    takes = parameters(find_target("model", path))
    supplied = {"mean": mean, "std": std, "image_size": size}
    net = make("model", config.model, **{name: value for name, value in supplied.items() if name in takes})
    if not isinstance(net, EmbeddingNet):
        net = EmbeddingNet(net, features_of(net, path, size), None, mean, std)
    return net.to(memory_format=torch.channels_last) if config.device.channels_last else net


def without_start(config: Config) -> Config:
    """``config`` without weights to start from, for what needs none or has its own in a checkpoint."""
    fresh: dict[str, Any] = {"pretrained": False}
    if config.model.get("weights") is not None:
        fresh |= {"weights": None, "weights_part": "all"}
    model = config.model | {key: value for key, value in fresh.items() if key in config.model}
    return dataclasses.replace(config, model=model)


def whiten(net: EmbeddingNet, data: SiameseData, seed: int) -> None:
    """Compute the filters of ``net`` that are of images, where it has any, of some training images of ``data``."""
    layers = [layer for layer in net.backbone.modules() if isinstance(layer, Whitening)]
    if layers:
        training = data.parts["train"]
        drawn = generator(seed, "whitening").permutation(len(training))[:WHITENING_IMAGES]
        images = net.normalised(torch.from_numpy(pixels(data.source.images, training[np.sort(drawn)])))
        for layer in layers:
            layer.fit(images)


def build(config: Config, data: SiameseData) -> SiameseModule:
    """The module that ``config`` describes, for ``data``."""
    net, asked = build_net(config, data.mean, data.std), config.objective
    whiten(net, data, config.seed)
    with torch.random.fork_rng(devices=[]):  # what a loss draws is a function of the seed, whatever the model drew
        torch.default_generator.manual_seed(int(generator(config.seed, "loss").integers(2**32)))
        classes, trained = data.source.numbered_from(data.parts["train"])
        base = make_loss(config.loss, trained, net.embedding_dim)
    weighed = (classes, trained if weighs_classes(config.loss) else None)
    koleo = KoLeo(asked.koleo_over, asked.koleo_neighbours)
    module = SiameseModule(
        net,
        Objective(term_name(config), base, koleo, asked.koleo_weight, data.kind.tuples_span_batch, *weighed),
        data,
        lambda groups: make_optimizer(config.optimizer, groups),
        lambda optimizer, steps: schedule(config, optimizer, steps),
        accumulation(config),
        settings=config.evaluation,
        loss_lr=asked.lr,
        backbone_lr=rate_of_backbone(config.optimizer),
        layer_decay=config.optimizer.get("layer_decay"),
        monitor=None if config.callbacks.monitor is None else config.callbacks.monitor.removeprefix(PREFIX),
    )
    # Lightning widens a module only after it has loaded a checkpoint into it.
    return module.double() if config.device.precision == "64-true" else module


def accumulation(config: Config) -> Accumulation:
    """How micro-batches become a step under ``config``."""
    asked = config.accumulation
    if asked.mode == "exact":
        return Exact()
    if asked.mode == "memory":
        return Memory(asked.scope, asked.size, asked.rescale_last_window)
    return Naive(asked.rescale_last_window)


def make_callbacks(config: Config, run: RunDirectory, stop: StopRequest) -> tuple[Recorder, list[pl.Callback]]:
    """What records, saves and measures while ``run`` trains, in the order in which it has its turn."""
    every = config.accumulation.measure_every
    meter = None if every is None else GradientMeter(every)
    recorder = Recorder(run, config.callbacks, meter)
    asked = config.callbacks
    checkpoints = Checkpoints(
        run,
        stop,
        recorder.require_finite,
        asked.checkpoint_every,
        asked.checkpoint_every_steps,
        asked.patience,
        Least(config.trainer.min_epochs or 0, config.trainer.min_steps or 0),
    )
    callbacks: list[pl.Callback] = [recorder, checkpoints]
    if asked.unfreeze is not None:
        callbacks = [Thawing(asked.unfreeze), *callbacks]
    averaging = make_averaging(config)
    if averaging is not None:  # first: validation ends with the weights that are trained, and those are saved
        callbacks = [averaging, *callbacks]
    if config.evaluation.every:
        callbacks = [EveryEpochs(config.evaluation), *callbacks]
    if meter is not None:
        callbacks = [meter, *callbacks]
    if config.trainer.max_steps is not None or config.trainer.max_time is not None:  # before what saves
        callbacks = [Limits(config.trainer.max_steps, config.trainer.max_time), *callbacks]
    return recorder, [*(make_callback(f"callbacks.extra.{k}", node) for k, node in asked.extra.items()), *callbacks]


def make_callback(key: str, node: Mapping[str, Any]) -> pl.Callback:
    """A callback of one's own.

    Raises:
        ConfigError: for a target that is no Lightning callback.
    """
    callback = make(key, node)
    if not isinstance(callback, pl.Callback):
        raise ConfigError(
            f"{key}._target_={node['_target_']}: expected a Lightning callback, found {type(callback).__name__}"
        )
    return callback


def make_trainer(config: Config, directory: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer for ``config``; without callbacks, for evaluation alone."""
    device, trainer = config.device, config.trainer
    terminal = rich.get_console().is_terminal
    progress: list[pl.Callback] = []
    if config.callbacks.progress_bar and callbacks:
        progress = [ProgressBar() if terminal else ProgressLines()]
    return pl.Trainer(
        accelerator=device.accelerator,
        devices=device.devices if callbacks else 1,
        num_nodes=device.num_nodes if callbacks else 1,
        strategy=_strategy(config) if callbacks else "auto",
        precision=precision_of(config),  # type: ignore[arg-type]
        max_epochs=trainer.max_epochs,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=trainer.gradient_clip_algorithm if trainer.gradient_clip_val else None,
        limit_train_batches=trainer.overfit_batches or trainer.limit_train_batches,
        check_val_every_n_epoch=trainer.check_val_every_n_epoch,
        deterministic=trainer.deterministic,  # type: ignore[arg-type]
        benchmark=trainer.benchmark,
        detect_anomaly=trainer.detect_anomaly,
        inference_mode=trainer.inference_mode,
        log_every_n_steps=trainer.log_every_n_steps,
        profiler=make_profiler(trainer.profiler, directory) if callbacks else None,
        num_sanity_val_steps=-1,  # the whole validation, as epoch 0
        logger=False,
        callbacks=callbacks + progress,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=directory,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=bool(progress) and terminal,
    )


def _strategy(config: Config) -> str | Strategy:
    """Lightning's strategy of that name; of several devices with the time that they wait for one another.

    DDP lays gradients out anew after its first step, unless it looks for parameters that are unused; and where a
    gradient lies decides in what order those of more than two ranks are added. A run that is gone on with would then
    not be bit for bit the same, for its first step is not the first.
    """
    device = config.device
    if device.ranks == 1:
        return device.strategy
    return DDPStrategy(timeout=timedelta(seconds=device.timeout), find_unused_parameters=device.ranks > 2)


def make_profiler(name: str | None, directory: Path) -> Profiler | None:
    """Lightning's profiler of that ``name``, which writes below ``directory``; without one, none."""
    if name is None:
        return None
    kind = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}[name]
    return kind(directory / "profile", name)


def device_facts(trainer: pl.Trainer) -> dict[str, Any]:
    """What ``trainer`` runs on, for the manifest."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "type": device.type,
        "name": name,
        "devices": trainer.world_size,
        "nodes": trainer.num_nodes,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
    }


def quieten() -> None:
    """Leave to Lightning's log what is wrong, and to ours what is going on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
