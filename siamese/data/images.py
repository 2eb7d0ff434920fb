"""What a data set is: labelled images, in memory or where they can be had from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from siamese.data.draws import generator
from siamese.errors import ConfigError
from siamese.runs.provenance import Digest

BLOCK = 64 * 2**20  # bytes of pixels that are looked at at a time
NO_CLASS = -1  # the label of an image that belongs to none


class Images(Protocol):
    """uint8 [N, 3, H, W]: a tensor, or what is asked for some of its images at a time and holds none of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nbytes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Tensor:
        """The images at ``index``, int64 [n] or a slice, as a tensor uint8 [n, 3, H, W]."""


class Chosen:
    """Some of ``images``, by their numbers ``index`` [n], as images."""

    def __init__(self, images: Images, index: np.ndarray) -> None:
        self.images, self.index = images, torch.from_numpy(index)
        self.shape = (len(index), *images.shape[1:])

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: Any, /) -> Tensor:
        return self.images[self.index[index]]


def blocks(images: Images, index: np.ndarray | None = None) -> Iterator[Tensor]:
    """``images`` (those of ``index``, in its order) some at a time."""
    index = np.arange(len(images)) if index is None else index
    count = max(1, BLOCK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(index), count):
        yield images[torch.from_numpy(index[start : start + count])]


def pixels(images: Images, index: np.ndarray) -> np.ndarray:
    """The images at ``index``, int64 of any shape, as uint8 [*index.shape, 3, H, W]."""
    chosen = images[torch.from_numpy(np.ascontiguousarray(index).reshape(-1))].numpy()
    return chosen.reshape(*index.shape, *chosen.shape[1:])


@dataclass(frozen=True)
class LabelledImages:
    """Images of one data set, training part first.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: int64 [N], indices into ``class_names``; :data:`NO_CLASS` of an image without one.
        class_names: names in label order.
        ids: one stable name an image, the same on every machine.
        is_test: bool [N]; whether the source itself sets the image apart for testing.
        is_validation: bool [N], the same for validation; None where the source sets none apart.
        groups: [N], the name of what each image belongs to (a patient, a product); those of one belong in one part.
        roles: [N], "query" or "gallery" of test images that are one of them and not the other, else "".
        more_labels: int64 [M, 2], (image, label): the classes of an image besides that in ``labels``.
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]
    ids: np.ndarray
    is_test: np.ndarray
    is_validation: np.ndarray | None = None
    groups: np.ndarray | None = None
    roles: np.ndarray | None = None
    more_labels: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        """A digest of the images, labels and ids."""
        digest = Digest()
        digest.begin("|u1", tuple(self.images.shape))
        for block in blocks(self.images):
            digest.add(block.numpy())
        return digest.of(self.labels.numpy(), self.ids)

    def take(self, index: np.ndarray) -> LabelledImages:
        """The images at ``index``, in its order, with all that is known of them."""
        kept: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in ("class_names", "more_labels") and value is not None:
                kept[f.name] = value[index]
        if self.more_labels is not None:
            place = np.full(len(self.ids), -1)
            place[index] = np.arange(len(index))
            image = place[self.more_labels[:, 0]]
            kept["more_labels"] = np.column_stack([image, self.more_labels[:, 1]])[image >= 0]
        return replace(self, **kept)

    def subset(self, per_class: int, seed: int) -> LabelledImages:
        """These images with ``per_class`` training images of each class, drawn from ``seed`` and left in their order.

        Raises:
            ConfigError: when a class has fewer.
        """
        labels = self.labels.numpy()
        random = generator(seed, "images_per_class")
        apart = self.is_test if self.is_validation is None else self.is_test | self.is_validation
        kept = [np.flatnonzero(apart)]
        for label, name in enumerate(self.class_names):
            members = np.flatnonzero((labels == label) & ~apart)
            if not len(members) and apart[labels == label].any():
                continue  # a class that is only validated or tested on
            if len(members) < per_class:
                raise ConfigError(
                    f"data.images_per_class={per_class}: class {name!r} has only {len(members)} training images"
                )
            kept.append(random.choice(members, per_class, replace=False))
        return self.take(np.sort(np.concatenate(kept)))
