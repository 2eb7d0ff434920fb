"""The images that a configuration names, loaded."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from hydra.utils import instantiate

from siamese.config.data import HANDED_TO_SOURCE, Data
from siamese.config.targets import find_target, parameters
from siamese.data.files.cache import decoded
from siamese.data.files.collection import ImageFiles
from siamese.data.images import LabelledImages
from siamese.data.splits import split_images
from siamese.errors import ConfigError


def load_to_train(data: Data, seed: int) -> LabelledImages:
    """:func:`load`, which refuses what cannot be split as ``data`` says before the first file is decoded.

    Raises:
        ConfigError: when the images cannot be split; see also :func:`load`.
        RunError: see :func:`load`.
    """
    found = describe(data, seed)
    if isinstance(found.images, ImageFiles):
        split_images(found, data, seed)
    return _with_pixels(found)


def load(data: Data, seed: int) -> LabelledImages:
    """Load ``data.source``; ``data.images_per_class`` keeps that many training images of each
    class, drawn from ``seed`` and left in their order.

    Raises:
        ConfigError: when a class has fewer images than ``data.images_per_class``, or the source returns something else.
        RunError: when the source cannot be found, downloaded or read.
    """
    return _with_pixels(describe(data, seed))


def describe(data: Data, seed: int) -> LabelledImages:
    """What :func:`load` loads, with images that are files left as they are.

    Raises:
        ConfigError: see :func:`load`.
        RunError: see :func:`load`.
    """
    path = data.source["_target_"]
    takes = parameters(find_target("data.source", path))
    handed = {key: getattr(data, key) for key in HANDED_TO_SOURCE if key in takes}
    loaded = instantiate(data.source, _partial_=True, _convert_="all")(**handed)
    if not isinstance(loaded, LabelledImages):
        raise ConfigError(
            f"data.source._target_={path}: expected a function that returns siamese.data.LabelledImages, "
            f"found {type(loaded).__name__}"
        )
    if data.group is not None and loaded.groups is None:
        loaded = replace(loaded, groups=_groups(loaded.ids, data.group))
    return loaded if data.images_per_class is None else loaded.subset(data.images_per_class, seed)


def _with_pixels(source: LabelledImages) -> LabelledImages:
    return decoded(source) if isinstance(source.images, ImageFiles) else source


def _groups(ids: np.ndarray, pattern: str) -> np.ndarray:
    """The group that ``pattern`` finds in each of ``ids``."""
    found = [re.search(pattern, one) for one in ids]
    without = [one for one, match in zip(ids, found, strict=True) if match is None]
    if without:
        raise ConfigError(
            f"data.group={pattern}: found in no place of {len(without):,} of {len(ids):,} ids ({', '.join(without[:3])}"
            f"{', …' * (len(without) > 3)}); expected it in each"
        )
    return np.array([match.group(1) or "" for match in found if match])
