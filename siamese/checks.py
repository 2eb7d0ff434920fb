"""What a valid configuration can still not do, on this machine or with these images: one line each."""

from __future__ import annotations

import copy
import pkgutil

import torch
import yaml
from pytorch_lightning.strategies import StrategyRegistry

from siamese.artifacts import RunDirectory, read_json
from siamese.command_line import CONF
from siamese.data import SiameseData
from siamese.data.items import IMAGES, ITEMS
from siamese.errors import ConfigError, nearest
from siamese.losses import Objective, takes_references
from siamese.losses.build import make_loss, try_out
from siamese.module import SiameseModule
from siamese.schema import Config


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
    last = (len(data.loader) * data.loader.batch_size if data.group > 1 else data.loader.items) % size or size
    rows = data.layout.images * last if objective.koleo.over == "all" else last
    if rows <= objective.koleo.neighbours:
        raise ConfigError(
            f"data.batch_size={config.data.batch_size}: the last {together} of an epoch has {last} "
            f"{ITEMS[data.batches.kind]}, too few "
            f"for loss.koleo_over={objective.koleo.over} with loss.koleo_neighbours={objective.koleo.neighbours}"
        )


def check_same_data(run: RunDirectory, data: SiameseData) -> None:
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


def check_loss(config: Config) -> None:
    kind = config.batches.kind
    images = config.data.batch_size * config.device.devices * IMAGES.get(kind, 1)  # that a loss is called with
    if config.accumulation.mode == "exact":
        images *= config.trainer.accumulate_grad_batches
    try_out(config.loss, kind, images, config.model.get("embedding_dim") or 128)  # null: known once it is built


def check_memory(config: Config) -> None:
    """Refuse ``accumulation=memory`` where nothing would look at the references, or something should and cannot."""
    if config.accumulation.mode != "memory":
        return
    koleo = config.loss["koleo_weight"]
    if koleo and config.loss["koleo_over"] != "all":
        raise ConfigError(
            f"loss.koleo_over={config.loss['koleo_over']}: the references of accumulation=memory have no roles; "
            "expected all"
        )
    with torch.random.fork_rng(devices=[]):
        loss = make_loss(config.loss, config.loss.get("num_classes") or 2, config.model.get("embedding_dim") or 128)
    drawn = config.batches.kind != "balanced"
    if takes_references(loss, drawn=drawn) or (drawn and koleo and not getattr(loss, "batch_dependent", True)):
        return
    targets = {file.stem: yaml.safe_load(file.read_text()).get("_target_") for file in (CONF / "loss").glob("*.yaml")}
    able = [name for name, path in targets.items() if path and takes_references(pkgutil.resolve_name(path), drawn=True)]
    raise ConfigError(
        f"accumulation.mode=memory: {config.loss['_target_']} cannot take reference embeddings with "
        f"batches.kind={config.batches.kind}; expected loss={'|'.join(sorted(able))}, a loss.miner, batches=balanced, "
        "or a loss of single tuples with loss.koleo_weight above 0"
    )


def check_image_size(config: Config, module: SiameseModule) -> None:
    size = config.data.image_size
    try:
        with torch.no_grad():
            copy.deepcopy(module.net).eval()(torch.zeros(1, 3, size, size, dtype=torch.uint8))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"data.image_size={size}: {config.model['_target_']} cannot embed images of this size ({reason})"
        ) from None
