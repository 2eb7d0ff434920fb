"""The typed, closed schema of a configuration: every key, its type, its range, and whether it is science.
Nothing here imports torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Union, get_type_hints

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Augment:
    crop_padding: int = 4
    flip: bool = True


@dataclass(frozen=True)
class Data:
    source: str = "cifar10"
    root: str | None = None
    download: bool = True
    image_size: int = 32
    cache_dir: str | None = None
    decode_workers: int = 2
    images_per_class: int | None = None
    split: str = "by_image"
    val_fraction: float = 0.05
    test_fraction: float = 0.1
    folds: int = 5
    fold: int = 0
    triplets: str = "article"
    negatives_per_class: int | None = 2500
    batch_size: int = 64
    eval_batch_size: int = 256
    mean: list[float] | None = None
    std: list[float] | None = None
    augment: Augment = field(default_factory=Augment)


@dataclass(frozen=True)
class Batches:
    """What a micro-batch holds. The counts are for the kinds that need them, and null for the others."""

    kind: str = "triplets"
    images_per_class: int | None = None
    clusters_per_class: int | None = None
    images_per_cluster: int | None = None
    refreshes: int | None = None


@dataclass(frozen=True)
class Accumulation:
    mode: str = "naive"
    rescale_last_window: bool = True
    scope: str = "window"
    size: int | None = None
    measure_every: int | None = None


@dataclass(frozen=True)
class Device:
    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    channels_last: bool = False


@dataclass(frozen=True)
class Trainer:
    max_epochs: int = 15
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    limit_train_batches: Union[int, float] = 1.0  # noqa: UP007 (OmegaConf reads this form)
    deterministic: bool = False
    detect_anomaly: bool = False


@dataclass(frozen=True)
class Callbacks:
    checkpoint_every: int | None = None
    checkpoint_every_steps: int | None = None
    progress_bar: bool = True
    heartbeat_seconds: float = 10.0
    collapse_cosine: float = 0.99


@dataclass(frozen=True)
class Evaluation:
    koleo_embeddings: int = 192
    pair_distance: float = 0.5
    every: int | None = None
    coverage: float = 0.5
    distance_threshold: float | None = None
    spread_images: int | None = None


@dataclass(frozen=True)
class Figures:
    format: str = "png"
    draw: bool = True


@dataclass(frozen=True)
class Sweep:
    """What ``python train.py -m`` does with its jobs; see :mod:`siamese.sweep`."""

    name: str | None = None
    points: list[list[str]] = field(default_factory=list)
    rerun: str = "failed"
    fail_fast: bool = False
    timeout: float | None = None
    isolate: bool = True


@dataclass(frozen=True)
class Config:
    """One run. ``model``, ``loss``, ``optimizer``, ``scheduler`` and ``logger`` name a ``_target_``;
    their other keys are the arguments of that target and are checked against its signature."""

    name: str = "run"
    seed: int = 0
    resume: str | None = None
    data: Data = field(default_factory=Data)
    batches: Batches = field(default_factory=Batches)
    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    accumulation: Accumulation = field(default_factory=Accumulation)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    device: Device = field(default_factory=Device)
    trainer: Trainer = field(default_factory=Trainer)
    callbacks: Callbacks = field(default_factory=Callbacks)
    evaluation: Evaluation = field(default_factory=Evaluation)
    figures: Figures = field(default_factory=Figures)
    logger: dict[str, Any] = field(default_factory=dict)
    sweep: Sweep = field(default_factory=Sweep)


# Groups that name a _target_, with the arguments that the program itself supplies to it.
TARGETS: dict[str, tuple[str, ...]] = {
    "model": ("mean", "std", "image_size"),
    "loss": ("num_classes", "embedding_size"),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
    "logger": ("run",),
}
OPTIONAL_TARGETS = ("scheduler", "logger")  # a null _target_ is a choice there
# Keys of those groups that are ours, not the target's.
OWN_KEYS: dict[str, dict[str, Any]] = {
    "loss": {
        "koleo_weight": float,
        "koleo_over": str,
        "koleo_neighbours": int,
        "batches": list[str] | None,
        "miner": str | dict[str, Any] | None,
        "lr": float | None,
    },
    "scheduler": {"interval": str},
}

# Those of them that a loss inside another loss has too.
NESTED_KEYS = ("batches", "miner")

# The counts of ``batches`` that each kind needs.
BATCHES: dict[str, tuple[str, ...]] = {
    "triplets": (),
    "pairs": (),
    "balanced": ("images_per_class",),
    "views": (),
    "magnet": ("clusters_per_class", "images_per_cluster", "refreshes"),
}

# Arguments of a scheduler that, where they are null, are the length of the run.
SPANS = ("T_max", "total_steps")

# Keys that change where and how a run executes, not what it computes.
NOT_SCIENTIFIC = (
    "name",
    "resume",
    "logger",
    "callbacks",
    "sweep",
    "evaluation.every",
    "figures",
    "accumulation.measure_every",
    "device.accelerator",
    "device.strategy",
    "device.channels_last",
    "data.root",
    "data.download",
    "data.cache_dir",
    "data.decode_workers",
    "data.eval_batch_size",
)


def is_scientific(key: str) -> bool:
    """Whether changing ``key`` (dotted) changes what a run computes."""
    return not any(key == k or key.startswith(k + ".") for k in NOT_SCIENTIFIC)


Check = tuple[Callable[[Any], bool], str]


def _above(low: float) -> Check:
    return (lambda v: v > low, f"a number above {low:g}")


def _at_least(low: int) -> Check:
    return (lambda v: v >= low, f"at least {low}")


def _whole_from(low: int) -> Check:
    return (lambda v: isinstance(v, int) and v >= low, f"a whole number from {low}")


def _between(low: float, high: float) -> Check:
    return (lambda v: low < v < high, f"a fraction above {low:g} and below {high:g}")


def _one_of(*choices: str) -> Check:
    return (lambda v: v in choices, "one of " + ", ".join(choices))


CHECKS: dict[str, Check] = {
    "seed": (lambda v: 0 <= v < 2**32, f"a number from 0 to {2**32 - 1}"),
    "data.source": _one_of("cifar10", "digits", "fashion_mnist", "image_folder"),
    "data.image_size": _at_least(1),
    "data.decode_workers": _at_least(1),
    "data.images_per_class": _at_least(2),
    "data.split": _one_of("by_image", "article", "kfold"),
    "data.val_fraction": _between(0, 1),
    "data.test_fraction": _between(0, 1),
    "data.folds": _at_least(2),
    "data.fold": _at_least(0),
    "data.triplets": _one_of("article", "fixed", "resampled"),
    "data.negatives_per_class": _at_least(1),
    "data.batch_size": _at_least(1),
    "data.eval_batch_size": _at_least(1),
    "data.augment.crop_padding": _at_least(0),
    "batches.kind": _one_of(*BATCHES),
    "batches.images_per_class": _at_least(2),
    "batches.clusters_per_class": _at_least(1),
    "batches.images_per_cluster": _at_least(2),
    "batches.refreshes": _at_least(1),
    "model.embedding_dim": _at_least(1),
    "model.width": _at_least(1),
    "model.dropout": (lambda v: 0 <= v < 1, "a fraction from 0 and below 1"),
    "loss.margin": _above(0),
    "loss.negatives": _at_least(1),
    "loss.class_weighting": _at_least(0),
    "loss.l2_weight": _at_least(0),
    "loss.alpha": _above(0),
    "loss.koleo_weight": _at_least(0),
    "loss.koleo_over": _one_of("all", "anchors", "per_role"),
    "loss.koleo_neighbours": _at_least(1),
    "loss.lr": _above(0),
    "loss.temperature": _above(0),
    "loss.scale": _above(0),
    "loss.softmax_scale": _above(0),
    "loss.num_bins": _whole_from(1),
    "loss.memory_size": _whole_from(1),
    "loss.centers_per_class": _whole_from(1),
    "loss.sub_centers": _whole_from(1),
    "accumulation.mode": _one_of("naive", "exact", "memory"),
    "accumulation.scope": _one_of("window", "persistent"),
    "accumulation.size": _at_least(1),
    "accumulation.measure_every": _at_least(1),
    "optimizer.lr": _above(0),
    "optimizer.weight_decay": _at_least(0),
    "scheduler.step_size": _at_least(1),
    "scheduler.interval": _one_of("step", "epoch"),
    "device.accelerator": _one_of("auto", "cpu", "cuda", "mps"),
    "device.devices": _at_least(1),
    "device.precision": _one_of("32-true", "64-true", "bf16-mixed", "16-mixed"),
    "trainer.max_epochs": _at_least(1),
    "trainer.accumulate_grad_batches": _at_least(1),
    "trainer.gradient_clip_val": _above(0),
    "trainer.gradient_clip_algorithm": _one_of("norm", "value"),
    "trainer.limit_train_batches": (
        lambda v: v >= 1 if isinstance(v, int) else 0 < v <= 1,
        "a fraction above 0.0 and up to 1.0, or a whole number from 1 (of micro-batches)",
    ),
    "callbacks.checkpoint_every": _at_least(1),
    "callbacks.checkpoint_every_steps": _at_least(1),
    "callbacks.heartbeat_seconds": _above(0),
    "callbacks.collapse_cosine": _between(0, 1),
    "evaluation.koleo_embeddings": _at_least(2),
    "sweep.name": (
        lambda v: re.fullmatch(r"\w[\w.+-]*", v) is not None,
        "the name of a folder: letters, digits and . _ + -",
    ),
    "sweep.rerun": _one_of("failed", "all", "none"),
    "sweep.timeout": _above(0),
    "evaluation.pair_distance": _above(0),
    "evaluation.every": _at_least(1),
    "evaluation.coverage": _between(0, 1),
    "evaluation.distance_threshold": _above(0),
    "evaluation.spread_images": _at_least(2),
    "figures.format": _one_of("png", "svg", "pdf"),
}


def schema() -> dict[str, Any]:
    """The type of every dotted key that the typed schema knows (arguments of targets not included)."""

    def walk(cls: type, prefix: str) -> Iterator[tuple[str, Any]]:
        for f in fields(cls):
            kind = get_type_hints(cls)[f.name]
            yield prefix + f.name, kind
            if is_dataclass(kind):
                yield from walk(kind, prefix + f.name + ".")  # type: ignore[arg-type]

    own = {f"{group}.{key}": kind for group, keys in OWN_KEYS.items() for key, kind in keys.items()}
    return dict(walk(Config, "")) | own
