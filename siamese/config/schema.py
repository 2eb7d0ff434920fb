"""The schema of a configuration: every key with its type, its default, its range, and what it means.

A key is science unless it says otherwise: changing it changes what a run computes. The arguments of what is named by
a ``_target_`` are the target's own; their ranges are in :mod:`siamese.config.ranges`.
"""

# ruff: noqa: RUF009 (key and where make fields)
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Union, get_type_hints

from hydra.core.config_store import ConfigStore

from siamese.config.data import HANDED_TO_SOURCE, Data
from siamese.config.fields import key, where
from siamese.config.jobs import Study, Sweep
from siamese.config.ranges import (
    ARGUMENTS,
    EPOCH_OR_SHARE,
    MODULES,
    SEED,
    Range,
    above,
    at_least,
    between,
    one_of,
)
from siamese.config.trainer import Trainer

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Objective:
    """What is minimised besides the loss itself. Its keys stand below ``loss``, for every loss has them."""

    koleo_weight: float = key(0.0, at_least(0), "times KoLeo, added to any loss")
    koleo_over: str = key(
        "all", one_of("all", "anchors", "per_role"), "what KoLeo sees: all | anchors | each role apart, and their mean"
    )
    koleo_neighbours: int = key(1, at_least(1), "how many nearest neighbours KoLeo pushes away")
    lr: float | None = key(None, above(0), "of the loss's own parameters, such as proxies; null = the optimizer's")


@dataclass(frozen=True)
class Accumulation:
    """How micro-batches become one optimizer step."""

    mode: str = key("naive", one_of("naive", "exact", "memory"))
    rescale_last_window: bool = key(True, None, "a short last window counts its micro-batches alike")
    scope: str = key("window", one_of("window", "persistent"), "memory: of the window so far | of earlier windows too")
    size: int | None = key(None, at_least(1), "memory: at most so many of the last embeddings")
    measure_every: int | None = where(None, at_least(1), "compare the gradient with the exact one every so many steps")


@dataclass(frozen=True)
class Device:
    accelerator: str = where("auto", one_of("auto", "cpu", "cuda", "mps"))
    devices: int = key(
        1, at_least(1), "processes that train one network, each on a device; together they are one batch"
    )
    num_nodes: int = key(1, at_least(1), "machines, each with so many devices, on which torchrun or srun starts them")
    timeout: float = where(600.0, above(0), "seconds that the processes of several devices wait for one another")
    strategy: str = where("auto", None, "Lightning's; ddp for several devices")
    precision: str = key(
        "32-true",
        one_of("auto", "32-true", "64-true", "bf16-mixed", "16-mixed"),
        "auto: bf16-mixed where the hardware has it, else 32-true; the run records which",
    )
    memory_budget: float | None = where(
        None, above(0), "GB that training may take on each device, for data.batch_size=auto; null = 0.9 of what is free"
    )
    channels_last: bool = where(True, None, "the memory format of images and convolutions")

    @property
    def ranks(self) -> int:
        """Processes that train one network, on all machines."""
        return self.devices * self.num_nodes


@dataclass(frozen=True)
class Callbacks:
    checkpoint_every: int | None = key(None, at_least(1), "keep checkpoints/epoch-*.ckpt every so many epochs")
    checkpoint_every_steps: int | None = key(
        None, at_least(1), "write last.ckpt every so many optimizer steps, besides every epoch"
    )
    progress_bar: bool = key(True)
    heartbeat_seconds: float = key(10.0, above(0))
    collapse_cosine: float = key(
        0.99, between(0, 1), "mean cosine of validation images above which the embedding is called collapsed"
    )
    extra: dict[str, Any] = key({}, None, "Lightning callbacks of your own: NAME: {_target_: ..., ARGUMENT: ...}")
    monitor: str | None = key(
        None,
        None,
        "best.ckpt is the best by it, such as val/map_at_r; null = val/auc, or val/view_recall_at_1",
    )
    ema: float | None = key(
        None, between(0, 1), "measure and keep a mean of the weights, a step ago counting so much, such as 0.99"
    )
    swa: Union[int, float, None] = key(  # noqa: UP007 (OmegaConf reads this form)
        None, EPOCH_OR_SHARE, "measure and keep the mean of the weights after each epoch from this on, or this fraction"
    )
    patience: int | None = key(None, at_least(1), "stop once the monitored measure has not improved for so many epochs")
    unfreeze: int | None = key(None, at_least(1), "train what model.freeze keeps too, once so many epochs are over")


# What decides the weights that a run ends with, among the keys of callbacks.
DECIDING = ("ema", "extra", "monitor", "patience", "swa", "unfreeze")


@dataclass(frozen=True)
class Evaluation:
    koleo_embeddings: int = key(
        192, at_least(2), "val/koleo is measured on so many validation images, whatever the batch size"
    )
    pair_distance: float = key(
        0.5, above(0), "batches=pairs: a nearer pair (Euclidean) counts as one of the same class"
    )
    every: int | None = where(None, at_least(1), "measure everything on validation images every so many epochs too")
    coverage: float = key(0.5, between(0, 1), "the share of a class's points that its ellipse holds")
    distance_threshold: float | None = key(
        None, above(0), "accuracy calls nearer pairs the same class; null = the best on validation"
    )
    spread_images: int | None = key(
        None, at_least(2), "spread is measured on so many images, so that parts of other sizes compare; null = on all"
    )
    most_classes: int = key(
        1000, at_least(2), "classes up to which the matrix of distances, the clusters and the linear probe are measured"
    )
    most_images: int = key(100_000, at_least(2), "images up to which all pairs of them are measured")
    exclude_same_group: bool = key(
        False, None, "a query passes over images of its class and group (data.group), as re-identification does"
    )
    points: str = key(
        "images",
        one_of("images", "anchors"),
        "what distances between classes and ellipses are of: images (all) | anchors (of the part's triplets)",
    )
    flip: bool = key(
        False, None, "an image's embedding is the mean of its own and its mirror image's, brought to length 1"
    )
    resamples: int = key(1000, at_least(0), "of the bootstrap that gives intervals; 0 = none")


@dataclass(frozen=True)
class Figures:
    format: str = key("png", one_of("png", "svg", "pdf"))
    draw: bool = key(True, None, "false = only when asked for: python scripts/evaluate.py RUN --figures-only")


@dataclass(frozen=True)
class Config:
    """One run. Groups that name a ``_target_`` hold the arguments of that target beside it; they are checked against
    its signature."""

    name: str = where("run", None, "part of the name of the run directory")
    seed: int = key(0, SEED, "every random draw is a function of it")
    resume: str | None = where(None, None, "a run directory to go on with, from its last checkpoint")
    trust: Any = where(None, MODULES, "modules that a run directory may name targets of: resume=RUN trust=mymodule")
    data: Data = key(Data)
    batches: dict[str, Any] = key({})
    model: dict[str, Any] = key({})
    loss: dict[str, Any] = key({})
    objective: Objective = key(Objective)
    accumulation: Accumulation = key(Accumulation)
    optimizer: dict[str, Any] = key({})
    scheduler: dict[str, Any] = key({})
    device: Device = key(Device)
    trainer: Trainer = key(Trainer)
    callbacks: Callbacks = where(Callbacks)
    evaluation: Evaluation = key(Evaluation)
    figures: Figures = where(Figures)
    logger: dict[str, Any] = where({})
    sweep: Sweep = where(Sweep)
    study: Study = where(Study)


# Nodes that name a _target_, with the arguments that the program itself supplies to it.
TARGETS: dict[str, tuple[str, ...]] = {
    "data.source": HANDED_TO_SOURCE,
    "data.augment": (),
    "batches": (),
    "model": ("mean", "std", "image_size"),
    "loss": ("num_classes", "embedding_size"),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "logger": ("run",),
}
OPTIONAL_TARGETS = ("data.augment", "scheduler", "logger")  # a null _target_ is a choice there
# Keys of those nodes that are ours, not the target's. A loss inside another loss has them too.
OWN_KEYS: dict[str, dict[str, Any]] = {
    "loss": {"batches": list[str] | None, "miner": str | dict[str, Any] | None},
    "optimizer": {"decay": str, "backbone_lr": float | None, "layer_decay": float | None},
    "scheduler": {"interval": str, "warmup": int | float | None},
}
# What an optimizer does unless it is told otherwise.
OPTIMIZER: dict[str, Any] = {"decay": "all", "backbone_lr": None, "layer_decay": None}

# Arguments of a scheduler that, where they are null, are the length of the run.
SPANS = ("T_max", "total_steps")


@dataclass(frozen=True)
class Key:
    """A key of a configuration by its dotted name as it is typed."""

    name: str
    type: Any
    default: Any
    wanted: Range | None
    about: str
    science: bool


def keys(cls: type = Config, prefix: str = "", science: bool = True) -> Iterator[Key]:
    """Every key that the schema knows, groups included; not the arguments of targets."""
    types = get_type_hints(cls)
    for f in fields(cls):
        name = "loss" if cls is Config and f.name == "objective" else prefix + f.name
        marked = bool(f.metadata["science"]) and (science or (cls is Callbacks and f.name in DECIDING))
        default = f.default_factory() if callable(f.default_factory) else f.default
        if types[f.name] is not Objective:
            yield Key(name, types[f.name], default, f.metadata["wanted"], f.metadata["about"], marked)
        if is_dataclass(types[f.name]):
            yield from keys(types[f.name], f"{name}.", marked)


KEYS: dict[str, Key] = {found.name: found for found in keys()}
# The type of every key, and the range of those that have one.
TYPES: dict[str, Any] = {name: found.type for name, found in KEYS.items()} | {
    f"{group}.{name}": kind for group, own in OWN_KEYS.items() for name, kind in own.items()
}
RANGES: dict[str, Range] = {name: found.wanted for name, found in KEYS.items() if found.wanted} | ARGUMENTS
# Keys that change where and how a run executes, not what it computes, and what is below them.
NOT_SCIENTIFIC = tuple(
    name
    for name, found in KEYS.items()
    if not found.science and ("." not in name or KEYS[name.rpartition(".")[0]].science)
)


def is_scientific(name: str) -> bool:
    """Whether changing the key ``name`` (dotted) changes what a run computes."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if (found := KEYS.get(".".join(parts[:end]))) is not None:
            return found.science
    return True


def defaults() -> dict[str, Any]:
    """Every key with its default, as a configuration holds them before anything else is said."""
    plain = asdict(Config())
    loss = plain.pop("objective") | {"miner": None}
    schedule = {"interval": "epoch", "warmup": None}
    return plain | {"loss": loss, "optimizer": OPTIMIZER, "scheduler": schedule}


ConfigStore.instance().store(name="schema", node=defaults())
