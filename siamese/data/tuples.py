"""Triplets and pairs of image indices: of consecutive images, and drawn ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from siamese.data.images import NO_CLASS
from siamese.errors import ConfigError

WHOLE_DRAWS = 10**8  # numbers that the article's way to draw negatives may permute


def classes_of(labels: np.ndarray) -> list[np.ndarray]:
    """Of every class among ``labels`` [n], in the order of its label, the positions of its images, in their order."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1) if len(order) else []


def check_classes(labels: np.ndarray, index: np.ndarray, names: Sequence[str], part: str) -> None:
    """Refuse images from which no triplet could be formed.

    A class of one image can be a negative; it takes a second class, with two images, for a triplet.

    Raises:
        ConfigError: naming the classes among ``index``, where they are fewer than two or none has two images.
    """
    found, counts = np.unique(labels[index], return_counts=True)
    named = [names[label] for label in found[found >= 0]]
    if len(named) < 2:
        raise ConfigError(f"{part}: expected at least 2 classes, found {len(named)} ({', '.join(named) or 'none'})")
    if counts[found >= 0].max() < 2:
        raise ConfigError(f"{part}: expected a class of at least 2 images, an anchor and a positive, found none")


def article_triplets(labels: np.ndarray, negatives_per_class: int | None, random: np.random.RandomState) -> np.ndarray:
    """The article's triplets [T, 3] of positions in ``labels`` (anchor, positive, negative).

    Class after class: consecutive images (0, 1), (2, 3), … of the class, in the order of
    ``labels``, are anchor and positive; the negatives are drawn from ``random`` without replacement
    among the images of the other classes. A class has ``negatives_per_class`` triplets, or as many
    as it has pairs or there are other images, whichever is least.

    The article permutes all other images for each class. Where that would be more than
    ``WHOLE_DRAWS`` numbers, as many negatives are drawn one by one, without replacement too.
    """
    members = classes_of(labels)
    draw = _permuted if len(members) * len(labels) <= WHOLE_DRAWS else _one_by_one
    triplets = [np.empty((0, 3), np.int64)]
    for images in members:
        pairs = images[: len(images) // 2 * 2].reshape(-1, 2)
        others = len(labels) - len(images)
        wanted = len(pairs) if negatives_per_class is None else negatives_per_class
        drawn = draw(others, min(wanted, others), len(pairs), random)
        # The images of the class, sorted, stand between the others: the k-th other image is k places on, less those.
        negatives = drawn + np.searchsorted(images - np.arange(len(images)), drawn, side="right")
        triplets.append(np.column_stack([pairs[: len(negatives)], negatives]))
    return np.concatenate(triplets)


def _permuted(others: int, wanted: int, used: int, random: np.random.RandomState) -> np.ndarray:
    return random.choice(others, wanted, replace=False)[:used]


def _one_by_one(others: int, wanted: int, used: int, random: np.random.RandomState) -> np.ndarray:
    drawn: dict[int, None] = {}
    while len(drawn) < min(wanted, used):
        drawn[random.randint(others)] = None
    return np.array([*drawn], dtype=np.int64)


def article_split(
    labels: np.ndarray, negatives_per_class: int | None, seed: int, fraction: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """The article's training and validation triplets, draw for draw.

    NumPy's legacy generator under ``seed`` draws the negatives, then five triplets for a picture
    (drawn here too, and dropped, since what follows depends on it), then the permutation whose last
    ``fraction`` (in the article 5 %) validates. The two parts share images.

    Raises:
        ConfigError: when that is no triplet, or there are fewer than the picture shows.
    """
    random = np.random.RandomState(seed)
    triplets = article_triplets(labels, negatives_per_class, random)
    count = int((1 - fraction) * len(triplets))
    if fraction * len(triplets) < 1 or len(triplets) < 5:
        raise ConfigError(
            f"data.val_fraction={fraction}: of {len(triplets)} triplets under data.split=article that is none; "
            f"expected at least {max(5, math.ceil(1 / fraction))} triplets"
        )
    random.choice(len(triplets), 5, replace=False)
    triplets = triplets[random.permutation(len(triplets))]
    return triplets[:count], triplets[count:]


def draw_triplets(labels: np.ndarray, per_class: int | None, random: np.random.Generator) -> np.ndarray:
    """Random triplets [T, 3] of positions in ``labels``, ordered by the anchors' class.

    Of each class ``per_class`` images are anchors (null: all; drawn without replacement, and no
    image twice before every image was once); the positive is any other image of the class and the
    negative any image of another, each uniformly. An image that is alone in its class, and one of
    no class, is a negative only.
    """
    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    ends = np.append(starts[1:], len(labels))
    triplets = [np.empty((0, 3), np.int64)]
    for label, start, end in zip(found.tolist(), starts.tolist(), ends.tolist(), strict=True):
        size = end - start
        if size < 2 or label == NO_CLASS:
            continue
        count = size if per_class is None else per_class
        rounds = [random.permutation(size) for _ in range(-(-count // size))]
        anchor = np.concatenate(rounds)[:count]
        positive = (anchor + random.integers(1, size, count)) % size
        negative = random.integers(0, len(labels) - size, count)
        negative = np.where(negative < start, negative, negative + size)
        triplets.append(order[np.column_stack([start + anchor, start + positive, negative])])
    return np.concatenate(triplets)


def consecutive_pairs(labels: np.ndarray, per_class: int | None, random: np.random.Generator) -> np.ndarray:
    """Pairs [2·n·C, 2] of positions in ``labels``: of one class and of two, in turn, class after class.

    Of the images 0, 1, 2, … of a class, in the order of ``labels``, image i forms a pair with image
    i + 1, and the next pair with image i of another class, drawn uniformly. Each of the C classes has
    as many of either, n: one fewer than the smallest class has images, and at most ``per_class``.
    An image that is alone in its class, or of none, is in no pair.
    """
    members = [images for images in classes_of(labels) if len(images) > 1 and labels[images[0]] != NO_CLASS]
    count = min(len(images) for images in members) - 1
    count = count if per_class is None else min(count, per_class)
    table = np.stack([images[: count + 1] for images in members])
    others = (np.arange(len(table))[:, None] + random.integers(1, len(table), (len(table), count))) % len(table)
    same = np.stack([table[:, :-1], table[:, 1:]], axis=2)
    different = np.stack([table[:, :-1], table[others, np.arange(count)]], axis=2)
    return np.stack([same, different], axis=2).reshape(-1, 2)


def keep_apart(items: np.ndarray, labels: np.ndarray, more: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """``items`` [T, K] with no two images as of different classes that share one of several.

    Where the first image of an item and another differ in ``labels`` and yet share a class, counting those in
    ``more``, any image that shares none with the first takes the place of the other, uniformly.

    Args:
        labels: int64 [n], the class that an image counts as; items hold positions in it.
        more: int64 [M, 2], (position, label) of the other classes of an image.

    Raises:
        ConfigError: where an image shares a class with every other.
    """
    table = _class_table(labels, more)
    first, items = items[:, :1], items.copy()
    rows, places = np.nonzero((labels[items] != labels[first]) & _share(table[items], table[first]))
    for row, place in zip(rows, places, strict=True):
        apart = np.flatnonzero(~_share(table, table[items[row, 0]]))
        if not len(apart):
            raise ConfigError(
                f"image {items[row, 0]} of the part, by its several labels, is of a class of every other image; "
                "expected some image that can be its negative"
            )
        items[row, place] = random.choice(apart)
    return items


def _class_table(labels: np.ndarray, more: np.ndarray) -> np.ndarray:
    """All classes of each image, int64 [n, L]; where it has fewer than L, a number below 0 of its own."""
    images = np.concatenate([np.arange(len(labels)), more[:, 0]])
    classes = np.concatenate([labels, more[:, 1]])
    order = np.argsort(images, kind="stable")
    images, classes = images[order], classes[order]
    place = np.arange(len(images)) - np.searchsorted(images, images)
    table = np.tile(-2 - np.arange(len(labels)), (place.max(initial=0) + 1, 1)).T
    table[images, place] = classes
    return table


def _share(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether rows [..., L] of the table have a class in common."""
    return (one[..., :, None] == other[..., None, :]).any(axis=(-2, -1))


def pairs_of(triplets: np.ndarray) -> np.ndarray:
    """Pairs [2·T, 2], anchor and positive, anchor and negative in turn, of ``triplets`` [T, 3]."""
    return triplets[:, [0, 1, 0, 2]].reshape(-1, 2)
