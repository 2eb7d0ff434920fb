"""One run, from its configuration to a complete run directory."""

from __future__ import annotations

import copy
import logging
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import rich
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.strategies import StrategyRegistry
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.optim.lr_scheduler import ReduceLROnPlateau

from siamese.accumulation import statement
from siamese.artifacts import RunDirectory, holds_a_run, read_json, release
from siamese.callbacks import ProgressBar, Recorder
from siamese.checkpoints import AtomicCheckpointIO, Checkpoints, StopRequest, newest
from siamese.command_line import Interrupted, job_config
from siamese.config import ConfigError, RunError, check_targets, nearest, validate
from siamese.data import LabelledImages, TripletData, load
from siamese.evaluate import Entries, EveryEpochs, entry, evaluate, restore
from siamese.loggers import Logs, check_logger
from siamese.losses import KoLeo, Objective
from siamese.module import SiameseModule
from siamese.report import draw, results_table
from siamese.resume import resumed_config
from siamese.schema import OWN_KEYS, SPANS, Config

log = logging.getLogger(__name__)


def check(composed: DictConfig) -> Config:
    """The configuration that a command asks for, found fit to run on this machine.

    Raises:
        ConfigError: see :func:`siamese.config.validate`, :func:`siamese.config.check_targets` and
            :func:`siamese.resume.resumed_config`; for a device that is not there; or for values
            that the optimizer or the scheduler refuses.
    """
    plain = job_config(composed)
    config = validate(plain) if plain.resume is None else resumed_config(plain)
    check_targets(config)
    check_logger(config)
    check_device(config)
    _check_optimization(config)
    return config


def train(composed: DictConfig) -> None:
    """Train, evaluate and record one run in Hydra's output directory.

    Raises:
        ConfigError: for what cannot be run as it stands.
        RunError: for what fails while running.
        Interrupted: when a signal stopped it; last.ckpt is then usable.
    """
    config = check(composed)
    run = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
    if composed.resume is None and holds_a_run(run.path):
        raise ConfigError(
            f"{run.path}: already holds a run; go on with it (resume={run.path}) or choose another directory"
        )
    with StopRequest() as stop:
        try:
            run.status("running")
            with Logs(config, run) as logs:
                _train(config, run, stop, logs, resuming=composed.resume is not None)
            run.status("completed")
        except (ConfigError, RunError) as error:
            log.error("%s", error)
            run.status("failed", error=str(error))
            raise
        except MisconfigurationException as error:  # Lightning's, for settings that do not go together
            message = " ".join(str(error).split())
            log.error("%s", message)
            run.status("failed", error=message)
            raise ConfigError(message) from None
        except (Interrupted, KeyboardInterrupt):
            log.warning("interrupted; go on with: python train.py resume=%s", run.path)
            run.status("interrupted")
            raise
        except BaseException as error:
            log.error("%s", traceback.format_exc())
            run.status("failed", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            release(run.path)


def _train(config: Config, run: RunDirectory, stop: StopRequest, logs: Logs, *, resuming: bool) -> None:
    quieten()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = split_data(config, load(config.data, config.seed))
    module = build(config, data)
    _check_image_size(config, module)
    recorder = Recorder(run, config.callbacks)
    checkpoints = Checkpoints(
        run,
        stop,
        recorder.require_finite,
        config.callbacks.checkpoint_every,
        config.callbacks.checkpoint_every_steps,
    )
    every = config.evaluation.every
    callbacks = [*([EveryEpochs(config.evaluation)] if every else []), recorder, checkpoints]
    trainer = make_trainer(config, run.path, callbacks)
    _check_koleo_rows(config, module.objective, data)
    if resuming:
        _check_same_data(run, data)
        run.resume(config)
    else:
        _draw_samples(run, data, config.figures.format)
        run.begin(config, {"device": _device_facts(trainer), **data.facts()})
    trainer.logger = logs.open()
    log.info("%s", run.path)
    log.info("%s", statement(config, module.objective, trainer.world_size))
    start = newest(run.checkpoints) if resuming else None
    if resuming:
        log.info("going on from %s", start or "the beginning: there is no checkpoint yet")
    trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    run.status("running")
    epoch = restore(module, run.checkpoints / "best.ckpt")
    summary, notes = evaluate(config, run, module, data, make_trainer(config, run.path, []), epoch)
    if recorder.collapsed is not None:
        summary["val/collapsed"] = entry(1.0, "validation", recorder.collapsed, "min")
    summary |= _training_entries(run, module.objective)
    _measure_samples(run, module)
    draw(run.path, run, config.figures.format, logs.figure)
    run.summary(summary)
    logs.conclude(summary, data.source.images[torch.from_numpy(data.parts["test"])])
    results_table(run.path, summary, "best", notes)


def split_data(config: Config, source: LabelledImages) -> TripletData:
    """``source`` split and made into tuples as ``config`` says."""
    return TripletData(source, config.data, config.seed)


def build_net(config: Config, mean: Sequence[float], std: Sequence[float]) -> torch.nn.Module:
    """The network that ``config`` describes, for images of that ``mean`` and ``std`` a channel."""
    net = make("model", config.model, mean=mean, std=std)
    return net.to(memory_format=torch.channels_last) if config.device.channels_last else net


def build(config: Config, data: TripletData) -> SiameseModule:
    """The module that ``config`` describes, for ``data``."""
    net = build_net(config, data.mean, data.std)
    own = OWN_KEYS["loss"]
    base = make("loss", {k: v for k, v in config.loss.items() if k not in own})
    koleo = KoLeo(config.loss["koleo_over"], config.loss["koleo_neighbours"])
    name = "".join("_" * (i > 0 and c.isupper()) + c.lower() for i, c in enumerate(type(base).__name__))
    objective = Objective(name.removesuffix("_loss"), base, koleo, config.loss["koleo_weight"])
    return SiameseModule(
        net,
        objective,
        data,
        lambda parameters: make("optimizer", config.optimizer, parameters),
        lambda optimizer, steps: _schedule(config, optimizer, steps),
        rescale_last_window=config.accumulation.rescale_last_window,
        koleo_embeddings=config.evaluation.koleo_embeddings,
    )


def make(group: str, node: Mapping[str, Any], *arguments: Any, **supplied: Any) -> Any:
    """What ``node`` names in its ``_target_``, made of its other keys and of what is supplied here.

    Raises:
        ConfigError: when the target refuses them.
    """
    try:
        return instantiate(node, _partial_=True)(*arguments, **supplied)
    except (TypeError, ValueError, InstantiationException) as error:
        given = ", ".join(f"{group}.{k}={v}" for k, v in node.items() if k != "_target_")
        reason = " ".join(str(error).split())
        raise ConfigError(f"{group}: {node['_target_']} refuses {given or 'to be made'} ({reason})") from error


def make_trainer(config: Config, directory: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer for ``config``; without callbacks, for evaluation alone."""
    device, trainer = config.device, config.trainer
    shown = config.callbacks.progress_bar and bool(callbacks) and rich.get_console().is_terminal
    progress: list[pl.Callback] = [ProgressBar(leave=False)] if shown else []
    return pl.Trainer(
        accelerator=device.accelerator,
        devices=device.devices,
        strategy=device.strategy,
        precision=device.precision,  # type: ignore[arg-type]
        max_epochs=trainer.max_epochs,
        accumulate_grad_batches=trainer.accumulate_grad_batches,
        gradient_clip_val=trainer.gradient_clip_val,
        gradient_clip_algorithm=trainer.gradient_clip_algorithm if trainer.gradient_clip_val else None,
        limit_train_batches=trainer.limit_train_batches,
        deterministic=trainer.deterministic,
        detect_anomaly=trainer.detect_anomaly,
        num_sanity_val_steps=-1,  # the whole validation, as epoch 0
        logger=False,
        callbacks=callbacks + progress,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=directory,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=bool(progress),
    )


def _schedule(config: Config, optimizer: torch.optim.Optimizer, steps: int) -> dict[str, Any] | None:
    """Lightning's description of the scheduler; null ``T_max`` and ``total_steps`` span the run."""
    if not config.scheduler.get("_target_"):
        return None
    span = steps if config.scheduler["interval"] == "step" else config.trainer.max_epochs
    spans = {k: span for k in SPANS if k in config.scheduler and config.scheduler[k] is None}
    own = OWN_KEYS["scheduler"]
    arguments = {k: v for k, v in config.scheduler.items() if k not in own} | spans
    scheduler = make("scheduler", arguments, optimizer)
    return {"scheduler": scheduler, "interval": config.scheduler["interval"]}


def _training_entries(run: RunDirectory, objective: Objective) -> Entries:
    last = run.history()[-1]
    found = {}
    for name in ("loss", *objective.terms):
        depends = {"loss": objective.batch_dependent, "koleo": True}.get(name, objective.base.batch_dependent)
        value = float(last[f"train/{name}"])
        found[f"train/{name}"] = entry(value, "train", int(last["epoch"]), "min", bool(depends))
    return found


def _draw_samples(run: RunDirectory, data: TripletData, format: str) -> None:
    """Show what is trained on, before it is: five images a class, and five triplets."""
    source, train = data.source, data.parts["train"]
    images, labels = source.images.numpy(), source.labels.numpy()
    names = np.array(source.class_names)
    shown = np.concatenate([train[labels[train] == label][:5] for label in range(len(names))])
    triplets = data.epoch(0).triplets[:5].numpy()
    run.arrays(
        "samples",
        images=images[shown],
        labels=labels[shown],
        class_names=names,
        triplet_images=images[triplets],
        triplet_labels=labels[triplets],
        triplet_distances=np.full((len(triplets), 2), np.nan),
    )
    draw(run.path, run, format)


def _measure_samples(run: RunDirectory, module: SiameseModule) -> None:
    """Note how far apart the best checkpoint puts the images of the triplets that are shown."""
    with np.load(run.path / "arrays" / "samples.npz", allow_pickle=False) as stored:
        samples = dict(stored)
    images = torch.from_numpy(samples["triplet_images"]).to(module.device)
    with torch.no_grad():
        z = torch.nn.functional.normalize(module.eval()(images.flatten(0, 1)).double().cpu(), dim=1)
    anchors, others = z.unflatten(0, images.shape[:2]).split([1, 2], dim=1)
    run.arrays("samples", **samples | {"triplet_distances": 1 - (anchors * others).sum(2).numpy()})


def _check_koleo_rows(config: Config, objective: Objective, data: TripletData) -> None:
    """Refuse a micro-batch or a validation in which KoLeo would have too few rows, before it comes up."""
    if not objective.koleo_weight:
        return
    seen = min(config.evaluation.koleo_embeddings, *(len(data.parts[part]) for part in ("validation", "test")))
    if seen <= objective.koleo.neighbours:
        raise ConfigError(
            f"loss.koleo_neighbours={objective.koleo.neighbours}: expected fewer than the {seen} embeddings "
            "that validation measures KoLeo on"
        )
    size = data.loader.batch_size
    last = data.loader.triplets % size or size
    rows = 3 * last if objective.koleo.over == "all" else last
    if rows <= objective.koleo.neighbours:
        raise ConfigError(
            f"data.batch_size={size}: the last micro-batch of an epoch has {last} triplets, too few for "
            f"loss.koleo_over={objective.koleo.over} with loss.koleo_neighbours={objective.koleo.neighbours}"
        )


def _check_same_data(run: RunDirectory, data: TripletData) -> None:
    before, now = read_json(run.path / "manifest.json"), data.facts()
    for what in ("data", "split"):
        found, expected = now[what]["fingerprint"], before.get(what, {}).get("fingerprint")  # type: ignore[index]
        if found != expected:
            raise ConfigError(
                f"resume={run.path}: the {what} of the run has changed (fingerprint {found}, expected {expected})"
            )


def check_device(config: Config) -> None:
    device = config.device
    if device.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device.accelerator=cuda: no CUDA device was found here; expected device=auto or device=cpu")
    if device.accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device.accelerator=mps: no Apple GPU was found here; expected device=auto or device=cpu")
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
    optimizer = make("optimizer", config.optimizer, [torch.nn.Parameter(torch.zeros(1, 1))])
    if not isinstance(optimizer, torch.optim.Optimizer):
        path, found = config.optimizer["_target_"], type(optimizer).__name__
        raise ConfigError(f"optimizer._target_={path}: expected what makes a torch.optim.Optimizer, found {found}")
    schedule = _schedule(config, optimizer, steps=100)
    if schedule is not None and isinstance(schedule["scheduler"], ReduceLROnPlateau):
        raise ConfigError(
            f"scheduler._target_={config.scheduler['_target_']}: it waits for a metric; expected a scheduler that "
            "follows steps or epochs"
        )


def _check_image_size(config: Config, module: SiameseModule) -> None:
    size = config.data.image_size
    try:
        with torch.no_grad():
            copy.deepcopy(module.net).eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"data.image_size={size}: {config.model['_target_']} cannot embed images of this size ({reason})"
        ) from None


def _device_facts(trainer: pl.Trainer) -> dict[str, Any]:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "type": device.type,
        "name": name,
        "devices": trainer.world_size,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
    }


def quieten() -> None:
    """Leave to Lightning's log what is wrong, and to ours what is going on."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torchmetrics")
