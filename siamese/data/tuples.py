"""Triplets and pairs of image indices: of consecutive images, and drawn ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from siamese.errors import ConfigError


def check_classes(labels: np.ndarray, index: np.ndarray, names: Sequence[str], part: str) -> None:
    """Refuse images from which some class could form no triplet.

    Raises:
        ConfigError: naming the class with fewer than two images among ``index``, or a single class.
    """
    counts = np.bincount(labels[index], minlength=len(names))
    for name, count in zip(names, counts, strict=True):
        if count < 2:
            raise ConfigError(
                f"{part}: class {name!r} has {count} image{'' if count == 1 else 's'}; "
                "expected at least 2, an anchor and a positive"
            )
    if len(names) < 2:
        raise ConfigError(f"{part}: expected at least 2 classes, found {len(names)} ({', '.join(names)})")


def article_triplets(labels: np.ndarray, negatives_per_class: int | None, random: np.random.RandomState) -> np.ndarray:
    """The article's triplets [T, 3] of positions in ``labels`` (anchor, positive, negative).

    Class after class: consecutive images (0, 1), (2, 3), … of the class, in the order of
    ``labels``, are anchor and positive; the negatives are drawn from ``random`` without replacement
    among the images of the other classes. A class has ``negatives_per_class`` triplets, or as many
    as it has pairs or there are other images, whichever is least.
    """
    triplets = []
    for label in np.unique(labels):
        members, others = np.flatnonzero(labels == label), np.flatnonzero(labels != label)
        pairs = members[: len(members) // 2 * 2].reshape(-1, 2)
        wanted = len(pairs) if negatives_per_class is None else negatives_per_class
        negatives = others[random.choice(len(others), min(wanted, len(others)), replace=False)]
        count = min(len(pairs), len(negatives))
        triplets.append(np.column_stack([pairs[:count], negatives[:count]]))
    return np.concatenate(triplets)


def article_split(labels: np.ndarray, negatives_per_class: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The article's training and validation triplets, draw for draw.

    NumPy's legacy generator under ``seed`` draws the negatives, then five triplets for a picture
    (drawn here too, and dropped, since what follows depends on it), then the permutation whose last
    5 % validate. The two parts share images.
    """
    random = np.random.RandomState(seed)
    triplets = article_triplets(labels, negatives_per_class, random)
    if len(triplets) < 20:
        raise ConfigError(f"data.split=article: 5 % of {len(triplets)} triplets is none; expected at least 20")
    random.choice(len(triplets), 5, replace=False)
    triplets = triplets[random.permutation(len(triplets))]
    count = int((1 - 0.05) * len(triplets))
    return triplets[:count], triplets[count:]


def draw_triplets(labels: np.ndarray, per_class: int | None, random: np.random.Generator) -> np.ndarray:
    """Random triplets [T, 3] of positions in ``labels``, ordered by the anchors' class.

    Of each class ``per_class`` images are anchors (null: all; drawn without replacement, and no
    image twice before every image was once); the positive is any other image of the class and the
    negative any image of another, each uniformly. Every class needs two images.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.unique(labels))
    ends = np.append(starts[1:], len(labels))
    triplets = []
    for start, end in zip(starts, ends, strict=True):
        size = end - start
        count = size if per_class is None else per_class
        rounds = [random.permutation(size) for _ in range(-(-count // size))]
        anchor = np.concatenate(rounds)[:count]
        positive = (anchor + random.integers(1, size, count)) % size
        negative = random.integers(0, len(labels) - size, count)
        negative = np.where(negative < start, negative, negative + size)
        triplets.append(np.column_stack([order[start + anchor], order[start + positive], order[negative]]))
    return np.concatenate(triplets)


def consecutive_pairs(labels: np.ndarray, per_class: int | None, random: np.random.Generator) -> np.ndarray:
    """Pairs [2·n·C, 2] of positions in ``labels``: of one class and of two, in turn, class after class.

    Of the images 0, 1, 2, … of a class, in the order of ``labels``, image i forms a pair with image
    i + 1, and the next pair with image i of another class, drawn uniformly. Each of the C classes has
    as many of either, n: one fewer than the smallest class has images, and at most ``per_class``.
    """
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    count = min(len(images) for images in members) - 1
    count = count if per_class is None else min(count, per_class)
    table = np.stack([images[: count + 1] for images in members])
    others = (np.arange(len(table))[:, None] + random.integers(1, len(table), (len(table), count))) % len(table)
    same = np.stack([table[:, :-1], table[:, 1:]], axis=2)
    different = np.stack([table[:, :-1], table[others, np.arange(count)]], axis=2)
    return np.stack([same, different], axis=2).reshape(-1, 2)


def pairs_of(triplets: np.ndarray) -> np.ndarray:
    """Pairs [2·T, 2], anchor and positive, anchor and negative in turn, of ``triplets`` [T, 3]."""
    return triplets[:, [0, 1, 0, 2]].reshape(-1, 2)
