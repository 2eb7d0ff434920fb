"""Which images train, which validate and which test, decided before any tuple is formed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siamese.config.schema import Data
from siamese.data.draws import generator
from siamese.data.images import LabelledImages
from siamese.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Indices of images, each sorted: [n_train], [n_validation], [n_test]; and what there is to say of it."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    remarks: tuple[str, ...] = ()


def split_images(source: LabelledImages, data: Data, seed: int) -> Split:
    """Split by image, each class in the same proportion.

    The source's own test part is the test part; a source without one has ``data.test_fraction`` of
    its images set apart. Under ``by_image`` ``data.val_fraction`` of the rest validates, under
    ``kfold`` fold ``data.fold`` of ``data.folds``. ``article`` leaves all of the rest in train: its
    triplets are split, not its images (:func:`siamese.data.tuples.article_triplets`).

    Raises:
        ConfigError: when a class has too few images for two in every part.
    """
    labels = source.labels.numpy()
    pool = np.flatnonzero(~source.is_test)
    test = np.flatnonzero(source.is_test)
    if not len(test):
        pool, test = _hold_out(pool, labels, data.test_fraction, "data.test_fraction", seed, source.class_names)
    if data.split == "article":
        return Split(pool, pool[:0], test)
    if data.split == "kfold":
        train, validation = _fold(pool, labels, data, seed, source.class_names)
    else:
        train, validation = _hold_out(pool, labels, data.val_fraction, "data.val_fraction", seed, source.class_names)
    return Split(train, validation, test)


def _hold_out(
    pool: np.ndarray, labels: np.ndarray, fraction: float, key: str, seed: int, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    held = []
    random = generator(seed, key)
    for label, name in enumerate(names):
        members = pool[labels[pool] == label]
        count = max(2, round(len(members) * fraction))
        if len(members) - count < 2:
            raise ConfigError(
                f"{key}={fraction}: class {name!r} has {len(members)} images; expected at least 2 to hold out "
                f"and 2 to keep, found {count} and {max(0, len(members) - count)}"
            )
        held.append(random.choice(members, count, replace=False))
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(pool, out, assume_unique=True), out


def _fold(
    pool: np.ndarray, labels: np.ndarray, data: Data, seed: int, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    random = generator(seed, "kfold")
    held = []
    for label, name in enumerate(names):
        members = random.permutation(pool[labels[pool] == label])
        if len(members) < 2 * data.folds:
            raise ConfigError(
                f"data.folds={data.folds}: class {name!r} has {len(members)} images; "
                f"expected at least {2 * data.folds}, two a fold"
            )
        held.append(np.array_split(members, data.folds)[data.fold])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(pool, out, assume_unique=True), out
