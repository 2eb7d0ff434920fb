"""Validation and test with classes of their own."""

from __future__ import annotations

import numpy as np

from siamese.config.data import Data
from siamese.data.draws import generator
from siamese.data.images import NO_CLASS
from siamese.data.parts import Parts
from siamese.data.small_classes import Small, named
from siamese.errors import ConfigError, several

Divided = tuple[np.ndarray, np.ndarray, np.ndarray, Small, tuple[str, ...]]


def divide(parts: Parts, data: Data, seed: int, names: tuple[str, ...]) -> Divided:
    """Train, validation and test of which no two share a class; small classes; and what was left out.

    Test classes are ``data.test_fraction`` of all, and of the rest ``data.val_fraction`` validate, each rounded to the
    nearest whole number and at least two: of 10 classes 0.3 and 0.3 leave 5 to train on, 2 to validate and 3 to test.
    Under ``kfold`` fold ``data.fold`` of the rest validates.

    A test or validation part of the source whose classes are all its own stays as it is. Of a test part that shares
    classes with the training images, the images of test classes are tested on: those that only it has, and as many
    others, drawn, as the fraction asks for; the training images of these, and the test images of all others, are left
    out. A class of a single training image is too small to be held out.

    Raises:
        ConfigError: for too few classes, a validation part that shares some, and small classes if they are refused.
    """
    labels = parts.labels
    known, counts = np.unique(labels[parts.pool], return_counts=True)
    small, classes = known[counts < 2], known[counts >= 2]
    if len(small) and data.small_classes == "refuse":
        raise ConfigError(
            f"data.small_classes=refuse: {len(small):,} of {len(known):,} classes have too few images to form a pair: "
            f"{named(small, labels[parts.pool], names)}; expected 2 of each, or data.small_classes=train_only or drop"
        )
    of_test, of_validation = np.unique(labels[parts.test]), np.unique(labels[parts.validation])
    shared = np.intersect1d(of_validation, np.union1d(known, of_test))
    if len(shared):
        raise ConfigError(
            f"data.split=by_class: the source's validation part shares {len(shared):,} of its {len(of_validation):,} "
            f"classes with other parts: {several(names[label] for label in shared)}; expected classes of its own, or "
            "data.split=by_image"
        )
    common = np.intersect1d(of_test, known)
    folds = data.split == "kfold"
    draws_test, draws_validation = len(common) > 0 or not len(of_test), not len(of_validation)
    own_test = np.setdiff1d(of_test, known)
    least = 2 * (data.folds if folds else 1 + draws_validation) + 2 * draws_test
    if len(classes) + len(own_test) * draws_test < least:
        what = f"2 for each of data.folds={data.folds}" if folds else "2 to train on"
        what += ", 2 to validate" * (draws_validation and not folds) + ", 2 to test" * draws_test
        over = f"data.split={data.split}" + " data.fold_over=classes" * folds
        raise ConfigError(f"{over}: found {len(classes)} classes of 2 images; expected at least {least}, {what}")
    if draws_test:
        every = np.union1d(classes, own_test)
        count = _count(len(every), data.test_fraction, "data.test_fraction", least - 2)
        from_common = np.intersect1d(common, classes) if len(of_test) else classes
        count = min(max(0, count - int((own_test != NO_CLASS).sum())), len(from_common))
        chosen = generator(seed, "test classes").choice(from_common, count, replace=False)
        of_test = np.union1d(own_test, chosen)
        classes = np.setdiff1d(classes, of_test)
    if folds:
        of_validation = np.array_split(generator(seed, "kfold").permutation(classes), data.folds)[data.fold]
    elif draws_validation:
        count = _count(len(classes), data.val_fraction, "data.val_fraction", 2)
        of_validation = generator(seed, "validation classes").choice(classes, count, replace=False)
    of_train = np.setdiff1d(classes, of_validation)
    if data.small_classes == "train_only":
        of_train = np.union1d(of_train, np.setdiff1d(small, of_test))
    train, validation = _of(parts.pool, labels, of_train), _of(parts.pool, labels, of_validation)
    test = _of(parts.test if len(parts.test) else parts.pool, labels, of_test)
    validation = validation if draws_validation else parts.validation
    unused = len(labels) - len(train) - len(validation) - len(test)
    images = int(counts[counts < 2].sum())
    if data.small_classes == "drop":
        unused -= images
    said = f"data.split={data.split}: {unused:,} images are of classes that another part has, and are left out"
    return train, validation, test, Small(small, images), (said,) if unused else ()


def _of(index: np.ndarray, labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return index[np.isin(labels[index], classes)]


def _count(classes: int, fraction: float, key: str, keep: int) -> int:
    """``fraction`` of so many ``classes``, at least two.

    Raises:
        ConfigError: where fewer than ``keep`` would be left.
    """
    count = max(2, round(classes * fraction))
    if classes - count < keep:
        raise ConfigError(
            f"{key}={fraction}: of {classes} classes it holds out {count} and leaves {classes - count}; expected at "
            f"least {keep} to be left"
        )
    return count
