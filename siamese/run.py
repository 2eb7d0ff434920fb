"""One run, from its configuration to a complete run directory."""

from __future__ import annotations

import logging
import re
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import rich
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from siamese.accumulation import Accumulation, Exact, GradientMeter, Memory, Naive, statement
from siamese.artifacts import RunDirectory, follows, holds_a_run, lead, release
from siamese.callbacks import ProgressBar, Recorder
from siamese.checkpoints import AtomicCheckpointIO, Checkpoints, StopRequest, newest
from siamese.checks import check_device, check_image_size, check_koleo_rows, check_loss, check_memory, check_same_data
from siamese.command_line import Interrupted, job_config
from siamese.config import validate
from siamese.data import LabelledImages, SiameseData, load
from siamese.data.draws import generator
from siamese.errors import ConfigError, RunError
from siamese.evaluate import Entries, EveryEpochs, entry, evaluate, restore
from siamese.evaluate_pairs import evaluate_pairs
from siamese.loggers import Logs, check_logger
from siamese.losses import KoLeo, Objective
from siamese.losses.build import make_loss
from siamese.module import SiameseModule
from siamese.optimization import check_optimization, schedule
from siamese.report import draw, results_table
from siamese.resume import resumed_config
from siamese.schema import Config
from siamese.targets import check_targets, make

log = logging.getLogger(__name__)


def check(composed: DictConfig) -> Config:
    """The configuration that a command asks for, found fit to run on this machine.

    Raises:
        ConfigError: see :func:`siamese.config.validate`, :func:`siamese.targets.check_targets` and
            :func:`siamese.resume.resumed_config`; for a device that is not there; or for values
            that the optimizer or the scheduler refuses.
    """
    plain = job_config(composed)
    config = validate(plain) if plain.resume is None else resumed_config(plain)
    check_targets(config)
    check_logger(config)
    check_device(config)
    check_optimization(config)
    check_loss(config)
    check_memory(config)
    return config


def train(composed: DictConfig) -> None:
    """Train, evaluate and record one run in Hydra's output directory.

    Raises:
        ConfigError: for what cannot be run as it stands.
        RunError: for what fails while running.
        Interrupted: when a signal stopped it; last.ckpt is then usable.
    """
    if follows():
        logging.disable()
    config = check(composed)
    run = RunDirectory(Path(HydraConfig.get().runtime.output_dir))
    if composed.resume is None and not follows() and holds_a_run(run.path):
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
    check_image_size(config, module)
    every = config.accumulation.measure_every
    meter = None if every is None else GradientMeter(every)
    recorder = Recorder(run, config.callbacks, meter)
    checkpoints = Checkpoints(
        run,
        stop,
        recorder.require_finite,
        config.callbacks.checkpoint_every,
        config.callbacks.checkpoint_every_steps,
    )
    callbacks: list[pl.Callback] = [recorder, checkpoints]
    if config.evaluation.every:
        callbacks = [EveryEpochs(config.evaluation), *callbacks]
    if meter is not None:
        callbacks = [meter, *callbacks]
    trainer = make_trainer(config, run.path, callbacks)
    check_koleo_rows(config, module.objective, data)
    if resuming:
        check_same_data(run, data)
        run.resume(config)
    elif not follows():
        _show_samples(run, data)
        if config.figures.draw:
            draw(run.path, run, config.figures.format)
        run.begin(config, {"device": _device_facts(trainer), **data.facts()})
    trainer.logger = logs.open()
    log.info("%s", run.path)
    log.info("%s", statement(config, module.objective, trainer.world_size))
    start = newest(run.checkpoints) if resuming else None
    if resuming:
        log.info("going on from %s", start or "the beginning: there is no checkpoint yet")
    if config.device.devices > 1:
        lead()
    trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    if follows():
        return
    run.status("running")
    epoch = restore(module, run.checkpoints / "best.ckpt")
    trainer = make_trainer(config, run.path, [])
    summary, notes = evaluate(config, run, module, data, trainer, epoch)
    if data.batches.kind == "pairs":
        found, said = evaluate_pairs(run, module, data, trainer, epoch)
        summary, notes = summary | found, notes + said
    if recorder.collapsed is not None:
        summary["val/collapsed"] = entry(1.0, "validation", recorder.collapsed, "min")
    summary |= _training_entries(run, module.objective)
    _measure_samples(run, module)
    if config.figures.draw:
        draw(run.path, run, config.figures.format, logs.figure)
    run.summary(summary)
    logs.conclude(summary, data.source.images[torch.from_numpy(data.parts["test"])])
    results_table(run.path, summary, "best", notes)


def split_data(config: Config, source: LabelledImages) -> SiameseData:
    """``source`` split and made into tuples as ``config`` says."""
    return SiameseData(source, config.data, config.seed, config.batches, config.device.devices)


def build_net(config: Config, mean: Sequence[float], std: Sequence[float]) -> Any:
    """The network that ``config`` describes, for images of that ``mean`` and ``std`` a channel."""
    net = make("model", config.model, mean=mean, std=std, image_size=config.data.image_size)
    return net.to(memory_format=torch.channels_last) if config.device.channels_last else net


def build(config: Config, data: SiameseData) -> SiameseModule:
    """The module that ``config`` describes, for ``data``."""
    net = build_net(config, data.mean, data.std)
    with torch.random.fork_rng(devices=[]):  # what a loss draws is a function of the seed, whatever the model drew
        torch.default_generator.manual_seed(int(generator(config.seed, "loss").integers(2**32)))
        base = make_loss(config.loss, len(data.source.class_names), net.embedding_dim)
    koleo = KoLeo(config.loss["koleo_over"], config.loss["koleo_neighbours"])
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", config.loss["_target_"].rpartition(".")[2])
    finds_tuples = config.batches.kind == "balanced"
    objective = Objective(name.lower().removesuffix("_loss"), base, koleo, config.loss["koleo_weight"], finds_tuples)
    module = SiameseModule(
        net,
        objective,
        data,
        lambda parameters: make("optimizer", config.optimizer, parameters),
        lambda optimizer, steps: schedule(config, optimizer, steps),
        accumulation(config),
        koleo_embeddings=config.evaluation.koleo_embeddings,
        loss_lr=config.loss["lr"],
        pair_distance=config.evaluation.pair_distance,
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


def make_trainer(config: Config, directory: Path, callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's Trainer for ``config``; without callbacks, for evaluation alone."""
    device, trainer = config.device, config.trainer
    shown = config.callbacks.progress_bar and bool(callbacks) and rich.get_console().is_terminal
    progress: list[pl.Callback] = [ProgressBar(leave=False)] if shown else []
    return pl.Trainer(
        accelerator=device.accelerator,
        devices=device.devices if callbacks else 1,
        strategy=device.strategy if callbacks else "auto",
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


def _training_entries(run: RunDirectory, objective: Objective) -> Entries:
    last = run.history()[-1]
    found = {}
    for name in ("loss", *objective.terms):
        depends = {"loss": objective.batch_dependent, "koleo": True}.get(name, objective.base_depends)
        value = float(last[f"train/{name}"])
        found[f"train/{name}"] = entry(value, "train", int(last["epoch"]), "min", bool(depends))
    return found


def _show_samples(run: RunDirectory, data: SiameseData) -> None:
    """Show what is trained on, before it is: five images a class, and five triplets where there are."""
    source, train = data.source, data.parts["train"]
    images, labels = source.images.numpy(), source.labels.numpy()
    names = np.array(source.class_names)
    shown = np.concatenate([train[labels[train] == label][:5] for label in range(len(names))])
    arrays = {"images": images[shown], "labels": labels[shown], "class_names": names}
    if data.batches.kind == "triplets":
        triplets = data.epoch(0).items[:5].numpy()
        arrays |= {
            "triplet_images": images[triplets],
            "triplet_labels": labels[triplets],
            "triplet_distances": np.full((len(triplets), 2), np.nan),
        }
    run.arrays("samples", **arrays)


def _measure_samples(run: RunDirectory, module: SiameseModule) -> None:
    """Note how far apart the best checkpoint puts the images of the triplets that are shown."""
    with np.load(run.path / "arrays" / "samples.npz", allow_pickle=False) as stored:
        samples = dict(stored)
    if "triplet_images" not in samples:
        return
    images = torch.from_numpy(samples["triplet_images"]).to(module.device)
    with torch.no_grad():
        z = torch.nn.functional.normalize(module.eval()(images.flatten(0, 1)).double().cpu(), dim=1)
    anchors, others = z.unflatten(0, images.shape[:2]).split([1, 2], dim=1)
    run.arrays("samples", **samples | {"triplet_distances": 1 - (anchors * others).sum(2).numpy()})


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
