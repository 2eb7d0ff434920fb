"""What a data set is: labelled images, held once in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from siamese.data.draws import generator
from siamese.errors import ConfigError
from siamese.runs.provenance import fingerprint


@dataclass(frozen=True)
class LabelledImages:
    """Images of one data set, training part first.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: int64 [N], indices into ``class_names``.
        class_names: names in label order.
        ids: one stable name an image, the same on every machine.
        is_test: bool [N]; whether the source itself sets the image apart for testing.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    ids: np.ndarray
    is_test: np.ndarray

    @property
    def fingerprint(self) -> str:
        """A digest of the images, labels and ids."""
        return fingerprint(self.images.numpy(), self.labels.numpy(), self.ids)

    def subset(self, per_class: int, seed: int) -> LabelledImages:
        """These images with ``per_class`` training images of each class, drawn from ``seed`` and left in their order.

        Raises:
            ConfigError: when a class has fewer.
        """
        labels = self.labels.numpy()
        random = generator(seed, "images_per_class")
        kept = [np.flatnonzero(self.is_test)]
        for label, name in enumerate(self.class_names):
            members = np.flatnonzero((labels == label) & ~self.is_test)
            if len(members) < per_class:
                raise ConfigError(
                    f"data.images_per_class={per_class}: class {name!r} has only {len(members)} training images"
                )
            kept.append(random.choice(members, per_class, replace=False))
        index = np.sort(np.concatenate(kept))
        return LabelledImages(
            self.images[index], self.labels[index], self.class_names, self.ids[index], self.is_test[index]
        )
