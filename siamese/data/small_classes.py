"""Classes with too few images to be held out, or to form a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from siamese.data.images import NO_CLASS
from siamese.errors import ConfigError, several


class Small(NamedTuple):
    """Classes that are too small to be held out, int64 [C], and how many images they have to train on."""

    classes: np.ndarray
    images: int


def named(classes: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> str:
    """The first of ``classes``, each with its number of images among ``labels`` [n]."""
    counts = {label: int((labels == label).sum()) for label in classes[:5].tolist()}
    said = (
        f"{counts[label]} image{'s' * (counts[label] != 1)}" if label in counts else "" for label in classes.tolist()
    )
    called = ("without a class" if label == NO_CLASS else repr(names[label]) for label in classes.tolist())
    return several(f"{name} ({size})" for name, size in zip(called, said, strict=True))


def settle(
    parts: Mapping[str, np.ndarray], labels: np.ndarray, small: Small, treatment: str, names: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """``parts`` as ``data.small_classes`` has them where a class has a single image, and what became of small classes.

    Such a class is refused, remains a negative there under ``train_only``, and is left out there under ``drop``.

    Raises:
        ConfigError: for all single images of the first part that has some.
    """
    settled, remarks = dict(parts), []
    if len(small.classes):
        what = "only trained on" if treatment == "train_only" else "left out"
        remarks.append(
            f"{_classes(small.classes)} ({small.images:,} image{'s' * (small.images != 1)}) {what}, too small to be "
            "held out"
        )
    for part, index in parts.items():
        found, counts = np.unique(labels[index], return_counts=True)
        single = found[(counts == 1) & (found != NO_CLASS)]
        if treatment == "refuse" and len(single):
            raise ConfigError(
                f"{part} images: {_classes(single)} with one image ({several(names[label] for label in single)}); "
                "expected at least 2 of each, an anchor and a positive, or data.small_classes=train_only (a negative "
                "only) or drop"
            )
        if treatment == "drop":
            settled[part] = index[~np.isin(labels[index], single)]
        if len(single):
            remarks.append(
                f"{_classes(single)} with one image in {part} "
                + ("left out" if treatment == "drop" else "a negative only")
            )
    return settled, (f"data.small_classes={treatment}: " + "; ".join(remarks),) if remarks else ()


def _classes(found: np.ndarray) -> str:
    return f"{len(found):,} class{'es' * (len(found) != 1)}"
