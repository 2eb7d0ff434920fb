"""What the training part of an epoch is made of: triplets, pairs, class groups or pairs of views, as
positions among the training images. All of it is a function of labels, configuration, seed and epoch."""

from __future__ import annotations

import numpy as np

from siamese.data.balanced import class_groups
from siamese.data.draws import generator
from siamese.data.tuples import article_triplets, consecutive_pairs, draw_triplets, pairs_of
from siamese.schema import Batches, Data

# The name of an item, by kind of batches.
ITEMS = {
    "triplets": "triplets",
    "pairs": "pairs",
    "balanced": "class_groups",
    "views": "images",
    "magnet": "cluster_groups",
}
IMAGES = {"triplets": 3, "pairs": 2, "views": 2}  # of an item; a group has as many as batches.* says


def fixed_items(labels: np.ndarray, data: Data, batches: Batches, seed: int) -> np.ndarray | None:
    """The triplets [T, 3] or pairs [T, 2] that are the same in every epoch; None where none are."""
    if batches.kind not in ("triplets", "pairs") or data.triplets == "resampled":
        return None
    if data.triplets == "fixed":
        triplets = drawn_triplets(labels, data.negatives_per_class, seed, "train")
        return triplets if batches.kind == "triplets" else pairs_of(triplets)
    if batches.kind == "triplets":
        return article_triplets(labels, data.negatives_per_class, np.random.RandomState(seed))
    return drawn_pairs(labels, data.negatives_per_class, seed, "train")


def epoch_items(
    labels: np.ndarray, fixed: np.ndarray | None, data: Data, batches: Batches, seed: int, epoch: int
) -> np.ndarray:
    """The items [T, K] of ``epoch`` in their order; ``fixed`` in another order where there are any."""
    if batches.kind == "balanced":
        assert batches.images_per_class is not None
        return class_groups(labels, batches.images_per_class, generator(seed, "class groups", epoch))
    if batches.kind == "views":
        items = np.arange(len(labels)).repeat(2).reshape(-1, 2)
    elif fixed is not None:
        items = fixed
    else:
        triplets = drawn_triplets(labels, data.negatives_per_class, seed, "train", epoch)
        items = triplets if batches.kind == "triplets" else pairs_of(triplets)
    return items[generator(seed, "order", epoch).permutation(len(items))]


def drawn_triplets(labels: np.ndarray, per_class: int | None, seed: int, part: str, *place: int) -> np.ndarray:
    """:func:`draw_triplets` as ``seed`` has it for a part of the data, at an epoch where one is given."""
    return draw_triplets(labels, per_class, generator(seed, f"{part} triplets", *place))


def drawn_pairs(labels: np.ndarray, per_class: int | None, seed: int, part: str) -> np.ndarray:
    """:func:`consecutive_pairs` as ``seed`` has it for a part of the data."""
    return consecutive_pairs(labels, per_class, generator(seed, f"{part} pairs"))
