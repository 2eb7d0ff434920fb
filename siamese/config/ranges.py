"""What a value has to be: a test of it, and the words for what it expects."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

Range = tuple[Callable[[Any], bool], str]


def above(low: float) -> Range:
    return (lambda v: v > low, f"a number above {low:g}")


def at_least(low: int) -> Range:
    return (lambda v: v >= low, f"at least {low}")


def whole_from(low: int) -> Range:
    return (lambda v: isinstance(v, int) and v >= low, f"a whole number from {low}")


def whole_between(low: int, high: int) -> Range:
    return (lambda v: isinstance(v, int) and low <= v <= high, f"a whole number from {low} to {high}")


def between(low: float, high: float) -> Range:
    return (lambda v: low < v < high, f"a fraction above {low:g} and below {high:g}")


def one_of(*choices: str) -> Range:
    return (lambda v: v in choices, "one of " + ", ".join(choices))


LARGEST = 2**53  # of whole numbers: no count here is larger, and every library takes one so large


SEED: Range = (lambda v: 0 <= v < 2**32, f"a number from 0 to {2**32 - 1}")
SHARE_OR_COUNT: Range = (
    lambda v: v >= 1 if isinstance(v, int) else 0 < v <= 1,
    "a fraction above 0.0 and up to 1.0, or a whole number from 1 (of micro-batches)",
)
BATCH_SIZE: Range = (
    lambda v: v == "auto" or (isinstance(v, int) and not isinstance(v, bool) and v >= 1),
    "a whole number from 1, or auto",
)
EPOCH_OR_SHARE: Range = (
    lambda v: v >= 1 if isinstance(v, int) else 0 < v < 1,
    "an epoch from 1, or a fraction of them above 0.0 and below 1.0",
)
WARMUP: Range = (
    lambda v: v >= 1 if isinstance(v, int) else 0 < v < 1,
    "a fraction above 0.0 and below 1.0, or a whole number from 1 (of steps or epochs, as scheduler.interval says)",
)
SIZE: Range = (
    lambda v: (
        all(isinstance(n, int) and 1 <= n <= 4096 for n in (v if isinstance(v, list) else [v]))
        and (not isinstance(v, list) or len(v) == 2)
    ),
    "a whole number from 1 to 4096, or [HEIGHT, WIDTH]",
)
COLOUR: Range = (
    lambda v: len(v) == 3 and all(0 <= n <= 255 for n in v),
    "3 whole numbers from 0 to 255: red, green and blue",
)
CHANNELS: Range = (lambda v: len(v) == 3, "3 numbers, one a channel")
DEVIATIONS: Range = (lambda v: len(v) == 3 and min(v) > 0, "3 numbers above 0, one a channel")
ISOLATION: Range = (lambda v: v is True or v is False or v in ("auto", "fork"), "one of auto, fork, true, false")
FOLDER_NAME: Range = (
    lambda v: re.fullmatch(r"\w[\w.+-]*", v) is not None,
    "the name of a folder: letters, digits and . _ + -",
)

MODULES: Range = (
    lambda v: all(re.fullmatch(r"[\w.]+", name) for name in ([v] if isinstance(v, str) else v)),
    "the dotted name of a module, or a list of them",
)

# Of arguments that targets take, wherever they go by these keys; a loss inside a loss likewise.
ARGUMENTS: dict[str, Range] = {
    "data.augment.crop_padding": whole_from(0),
    "batches.images_per_class": at_least(2),
    "batches.small_classes": one_of("refuse", "repeat"),
    "batches.weight": one_of("classes", "images", "sqrt"),
    "batches.clusters_per_class": at_least(1),
    "batches.images_per_cluster": at_least(2),
    "batches.refreshes": at_least(1),
    "batches.negatives": at_least(1),
    "model.embedding_dim": at_least(1),
    "model.width": at_least(1),
    "model.dropout": (lambda v: 0 <= v < 1, "a fraction from 0 and below 1"),
    "loss.margin": above(0),
    "loss.negatives": at_least(1),
    "loss.class_weighting": at_least(0),
    "loss.l2_weight": at_least(0),
    "loss.alpha": above(0),
    "loss.temperature": above(0),
    "loss.scale": above(0),
    "loss.softmax_scale": above(0),
    "loss.num_bins": whole_from(1),
    "loss.memory_size": whole_from(1),
    "loss.centers_per_class": whole_from(1),
    "loss.sub_centers": whole_from(1),
    "optimizer.lr": above(0),
    "optimizer.weight_decay": at_least(0),
    "optimizer.backbone_lr": above(0),
    "optimizer.layer_decay": between(0, 1),
    "optimizer.decay": one_of("all", "weights"),
    "scheduler.step_size": at_least(1),
    "scheduler.interval": one_of("step", "epoch"),
    "scheduler.warmup": WARMUP,
}


def refused(value: Any, wanted: Range) -> bool:
    """Whether ``value`` is not what is ``wanted``, or of a type that cannot be compared with it."""
    try:
        return not wanted[0](value)
    except TypeError:
        return True


def too_large(value: Any) -> bool:
    """Whether a whole number in ``value`` is one that no count can be."""
    numbers = value if isinstance(value, list) else [value]
    return any(abs(number) > LARGEST for number in numbers if isinstance(number, int))


def finite(value: Any) -> bool:
    """Whether no number in ``value`` is NaN or infinite."""
    numbers = value if isinstance(value, list) else [value]
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))
