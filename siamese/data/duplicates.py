"""Images that have the same pixels, and those of them that a split or a label should have kept apart."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from siamese.data.images import Images, LabelledImages, blocks
from siamese.data.splits import Split
from siamese.errors import ConfigError


def same_pixels(images: Images) -> Iterator[np.ndarray]:
    """Groups of two or more numbers of images whose pixels are the same, each in ascending order."""
    sums = checksums(images)
    order = np.argsort(sums, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(sums[order]) != 0])
    for group in np.split(order, starts[1:]):
        if len(group) > 1:
            exact: dict[bytes, list[int]] = {}  # a checksum may be that of other pixels too
            for number in group:
                exact.setdefault(images[number : number + 1].numpy().tobytes(), []).append(int(number))
            yield from (np.array(same) for same in exact.values() if len(same) > 1)


def checksums(images: Images) -> np.ndarray:
    """The CRC-32 of the pixels of each image, uint32 [N]; those that ``images`` knows are not computed again."""
    known = getattr(images, "checksums", None)
    if known is not None:
        return np.asarray(known)
    return np.array([zlib.crc32(image.numpy()) for block in blocks(images) for image in block], dtype=np.uint32)


def across(source: LabelledImages, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pairs [P, 2] of images with the same pixels that are in training and in another part, or in two classes.

    Every such image is in a pair, with the first of those that it should not be the same as. In a pair an image of
    training comes first.

    Args:
        parts: the images of train, validation and test; what is in none is in no pair.
    """
    training, used = np.zeros(len(source.ids), dtype=bool), np.zeros(len(source.ids), dtype=bool)
    training[parts["train"]] = True
    for index in parts.values():
        used[index] = True
    labels, pairs = source.labels.numpy(), set()
    for group in same_pixels(source.images):
        members = [int(i) for i in group if used[i]]
        firsts: dict[tuple[bool, int], int] = {}
        for one in members:
            firsts.setdefault((bool(training[one]), int(labels[one])), one)
        for one in members:
            own = (bool(training[one]), int(labels[one]))
            apart = [first for key, first in firsts.items() if key[0] != own[0] or key[1] != own[1]]
            if apart:
                pairs.add(tuple(sorted((one, min(apart)), key=lambda i: (not training[i], i))))
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def settle(source: LabelledImages, split: Split, asked: str) -> tuple[Split, np.ndarray]:
    """``split`` as ``data.duplicates`` has ``asked`` for it, and the pairs of :func:`across`.

    ``drop_from_train`` takes every training image that is in a pair out of training.

    Raises:
        ConfigError: under ``refuse``, when there is a pair.
    """
    pairs = across(source, {"train": split.train, "validation": split.validation, "test": split.test})
    if not len(pairs):
        return split, pairs
    found = remark(source, split, pairs)
    if asked == "refuse":
        raise ConfigError(f"data.duplicates=refuse: {found}; expected none (data.duplicates=drop_from_train|warn)")
    if asked == "drop_from_train":
        kept = np.setdiff1d(split.train, pairs)
        found = f"{found}; {len(split.train) - len(kept):,} left out of training"
        split = replace(split, train=kept)
    return replace(split, remarks=(*split.remarks, found)), pairs


def remark(source: LabelledImages, split: Split, pairs: np.ndarray) -> str:
    """In words, how many ``pairs`` there are and the first of them."""
    labels = source.labels.numpy()[pairs]
    leaks = np.isin(pairs[:, 0], split.train) & ~np.isin(pairs[:, 1], split.train)
    of_two = labels[:, 0] != labels[:, 1]
    kinds = [(leaks, "in training and in another part"), (of_two & ~leaks, "in two classes")]
    said = [f"{int(which.sum()):,} {where}" for which, where in kinds if which.any()]
    return f"pairs of images with the same pixels: {', '.join(said)}, such as {' and '.join(source.ids[pairs[0]])}"


def rows(source: LabelledImages, parts: Mapping[str, np.ndarray], pairs: np.ndarray) -> list[dict[str, str]]:
    """The rows of duplicates.csv: the ids, parts and classes of the images of each of ``pairs``."""
    part = np.full(len(source.ids), "", dtype="U10")
    for name, index in parts.items():
        part[index] = name
    names, labels = [*source.class_names, ""], source.labels.numpy()  # NO_CLASS is the last

    def about(image: int, id_: str, part_: str, class_: str) -> dict[str, str]:
        return {id_: str(source.ids[image]), part_: str(part[image]), class_: names[labels[image]]}

    return [
        about(one, "image", "part", "class") | about(other, "other", "other_part", "other_class")
        for one, other in pairs.tolist()
    ]
