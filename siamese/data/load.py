"""The images that a configuration names, loaded."""

from __future__ import annotations

from hydra.utils import instantiate

from siamese.config.schema import HANDED_TO_SOURCE, Data
from siamese.config.targets import find_target, parameters
from siamese.data.images import LabelledImages
from siamese.errors import ConfigError


def load(data: Data, seed: int) -> LabelledImages:
    """Load ``data.source``; ``data.images_per_class`` keeps that many training images of each
    class, drawn from ``seed`` and left in their order.

    Raises:
        ConfigError: when a class has fewer images than ``data.images_per_class``, or the source returns something else.
        RunError: when the source cannot be found, downloaded or read.
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
    return loaded if data.images_per_class is None else loaded.subset(data.images_per_class, seed)
