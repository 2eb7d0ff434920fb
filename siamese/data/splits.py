"""Which images train, which validate and which test, decided before any tuple is formed, and before any is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siamese.config.data import Data
from siamese.data.draws import generator
from siamese.data.holding_out import Groups, Held, fold, fold_groups, hold_out, hold_out_groups
from siamese.data.images import NO_CLASS, LabelledImages
from siamese.data.open_set import divide
from siamese.data.parts import Parts, parts_of
from siamese.data.small_classes import Small, named, settle
from siamese.data.tuples import check_classes
from siamese.errors import ConfigError, several


@dataclass(frozen=True)
class Split:
    """Indices of images, each sorted: [n_train], [n_validation], [n_test]; and what there is to say of it."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    remarks: tuple[str, ...] = ()


def split_images(source: LabelledImages, data: Data, seed: int) -> Split:
    """Split ``source`` as ``data.split`` says. Pixels are not looked at.

    The parts that the source itself sets apart stay. ``by_image`` holds out ``data.test_fraction`` of the images of
    each class, where the source has no test part, and ``data.val_fraction`` of the rest; at least two images of each
    class. Under ``kfold`` fold ``data.fold`` of ``data.folds`` validates, of the images of each class, of the classes
    or of the groups. ``by_class`` is :func:`siamese.data.open_set.divide`. ``article`` leaves all of the rest in train:
    its triplets are split, not its images (:func:`siamese.data.tuples.article_split`).

    The images of one group are in one part; an image whose group is "" belongs to none. Whole groups are then held out,
    such that each class comes as near to its fraction as a greedy choice among them brings it. Images without a class
    are split as if of one. An image with several classes counts as one of the first. Classes that are too small to be
    held out, or to form a pair, are treated as ``data.small_classes`` says.

    Raises:
        ConfigError: for classes too small or too few, groups that two parts would share, and parts or images without
            a class that do not go with ``data.split``; all of a sort are counted and the first of them named.
    """
    parts = parts_of(source)
    _check_source(source, data, parts)
    if data.split == "by_class" or data.fold_over == "classes":
        train, validation, test, small, left = divide(parts, data, seed, source.class_names)
    else:
        train, validation, test, small = _closed(parts, data, seed, source.class_names)
        left = ()
    formed = {"train": train, "validation": validation, "test": test}
    _check_groups(source, data, parts, formed)
    formed, remarks = settle(formed, parts.labels, small, data.small_classes, source.class_names)
    for part, index in formed.items():
        if (parts.labels[index] != NO_CLASS).any() or not (len(index) or data.split == "article"):
            check_classes(parts.labels, index, source.class_names, f"{part} images")
    return Split(formed["train"], formed["validation"], formed["test"], (*left, *remarks))


def _check_source(source: LabelledImages, data: Data, parts: Parts) -> None:
    """Refuse a split that needs what the source does not say, or that contradicts what it says."""
    of_class = parts.labels[np.concatenate([parts.pool, parts.validation])] != NO_CLASS
    if not of_class.all() and of_class.any():
        raise ConfigError(
            f"data.source: {(~of_class).sum():,} of {len(of_class):,} images to train and validate "
            "on have no class; expected one of each image, or of none"
        )
    if not of_class.any() and data.split != "by_image":
        raise ConfigError(f"data.split={data.split}: the images have no classes; expected data.split=by_image")
    if data.split in ("kfold", "article") and len(parts.validation):
        raise ConfigError(
            f"data.split={data.split}: the source sets {len(parts.validation):,} images apart for validation itself; "
            "expected data.split=by_image, which keeps them"
        )
    if data.fold_over == "groups" and parts.groups is None:
        raise ConfigError(
            "data.fold_over=groups: the source names no groups; expected data.group, or groups of its own"
        )
    if data.split == "article" and parts.groups is not None:
        raise ConfigError(
            "data.split=article: its triplets share images, and so groups; expected data.split=by_image, or no groups"
        )


def _closed(
    parts: Parts, data: Data, seed: int, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Small]:
    """Train, validation and test with all classes in each. What is too small for one of them is found by trying."""
    small = np.empty(0, np.int64)
    while True:
        train, validation, test, found = _attempt(parts, data, seed, small)
        if not len(found):
            return train, validation, test, Small(small, int(np.isin(parts.labels[parts.pool], small).sum()))
        if data.small_classes == "refuse":
            _refuse_small(parts, data, found, names)
        small = np.union1d(small, found)


def _attempt(parts: Parts, data: Data, seed: int, small: np.ndarray) -> tuple[np.ndarray, ...]:
    """A split that holds out none of the classes ``small``, and which others are too small for it."""
    pool, validation, test = (
        index if data.small_classes == "train_only" else index[~np.isin(parts.labels[index], small)]
        for index in (parts.pool, parts.validation, parts.test)
    )
    free = pool[~np.isin(parts.labels[pool], small)]
    if parts.groups is not None:
        free = free[~np.isin(parts.groups[free], parts.groups[np.setdiff1d(pool, free)])]
    found = [small[:0]]

    def held(key: str) -> np.ndarray:
        index, too_small = _held(free, parts, data, key, generator(seed, key))
        found.append(too_small)
        return index

    if not len(test):
        test = held("data.test_fraction")
        free = np.setdiff1d(free, test)
    if data.split != "article" and not len(validation):
        validation = held("kfold" if data.split == "kfold" else "data.val_fraction")
    train = np.setdiff1d(pool, np.concatenate([validation, test]))
    return train, validation, test, np.unique(np.concatenate(found))


def _held(free: np.ndarray, parts: Parts, data: Data, key: str, random: np.random.Generator) -> Held:
    """What of the images ``free`` is held out under ``key``."""
    folds = key == "kfold"
    fraction = data.test_fraction if key == "data.test_fraction" else data.val_fraction
    if parts.groups is None:
        if folds:
            return fold(free, parts.labels, data.folds, data.fold, random)
        return hold_out(free, parts.labels, fraction, random)
    whatever_class = data.fold_over == "groups"
    groups = Groups(free, np.zeros_like(parts.labels) if whatever_class else parts.labels, parts.groups)
    found = fold_groups(groups, data.folds, data.fold, random) if folds else hold_out_groups(groups, fraction, random)
    if whatever_class and len(found[1]):
        raise ConfigError(
            f"data.fold_over=groups: {len(groups.members)} groups of {len(free):,} images are too few for 2 images in "
            f"each of data.folds={data.folds}"
        )
    return found


def _refuse_small(parts: Parts, data: Data, found: np.ndarray, names: tuple[str, ...]) -> None:
    """Refuse the classes ``found``, all of them in one line."""
    if data.split == "kfold":
        wanted = f"2 in each of data.folds={data.folds}"
    else:
        keys = ["test_fraction"] * (not len(parts.test)) + ["val_fraction"] * (not len(parts.validation))
        held = " and ".join(f"data.{key}={getattr(data, key)}" for key in keys)
        wanted = f"{held}, at least 2 images of each, and 2 to train on"
    if data.split == "kfold" and not len(parts.test):
        wanted += f", after data.test_fraction={data.test_fraction}"
    whole = ", of whole groups" * (parts.groups is not None)
    total = len(np.unique(parts.labels[parts.pool]))
    raise ConfigError(
        f"data.small_classes=refuse: {len(found):,} of {total:,} classes {'has' if len(found) == 1 else 'have'} too "
        f"few images for {wanted}{whole}: {named(found, parts.labels[parts.pool], names)}; expected more of each, or "
        "data.small_classes=train_only or drop"
    )


def _check_groups(source: LabelledImages, data: Data, parts: Parts, formed: dict[str, np.ndarray]) -> None:
    """Refuse groups with images in two of the parts ``formed``."""
    if source.groups is None or parts.groups is None:
        return
    of_part = [np.unique(parts.groups[index]) for index in formed.values()]
    found, counts = np.unique(np.concatenate(of_part), return_counts=True)
    torn = source.groups[np.isin(parts.groups, found[counts > 1])]
    if len(torn):
        torn = np.unique(torn)
        cause = "classes" if data.split == "by_class" or data.fold_over == "classes" else "the source's own parts"
        raise ConfigError(
            f"data.split={data.split}: {len(torn):,} of {len(found):,} groups {'has' if len(torn) == 1 else 'have'} "
            f"images in two parts, for {cause} cut through them: {several(torn)}; expected each group in one part"
        )
