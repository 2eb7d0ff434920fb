"""What a data set is: labelled images, in memory or where they can be had from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from siamese.data.draws import generator
from siamese.errors import ConfigError
from siamese.runs.provenance import Digest, fingerprint

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


@runtime_checkable
class Keeping(Protocol):
    """Images that keep what was computed of all of them."""

    def kept(self, name: str, key: str, compute: Callable[[], Any]) -> Any:
        """What ``compute`` gives, as JSON has it, of these images and what ``key`` is a digest of."""


def kept(images: Images, name: str, key: str, compute: Callable[[], Any]) -> Any:
    """``compute()``; where ``images`` keep such things, what it gave before for them, this ``name`` and ``key``."""
    return images.kept(name, key, compute) if isinstance(images, Keeping) else compute()


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


def _taken(values: Any, index: np.ndarray) -> Any:
    """Those at ``index`` of an array, or of images; of images that are read when asked for, none is read."""
    if isinstance(values, (Tensor, np.ndarray)):
        return values[index]
    return values.take(index) if hasattr(values, "take") else Chosen(values, index)


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


def moments(images: Images, index: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of the images at ``index``, in [0, 1], to six decimals."""
    counts = np.zeros((images.shape[1], 256))
    for block in blocks(images, index):
        for channel, values in enumerate(block.transpose(0, 1)):
            counts[channel] += torch.bincount(values.reshape(-1), minlength=256).numpy()
    levels, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt(shares @ levels**2 - mean**2).clip(min=1 / 255)
    return [float(m) for m in mean.round(6)], [float(s) for s in std.round(6)]


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
        labels = self.labels.numpy()

        def compute() -> str:
            digest = Digest()
            digest.begin("|u1", tuple(self.images.shape))
            for block in blocks(self.images):
                digest.add(block.numpy())
            return digest.of(labels, self.ids)

        return str(kept(self.images, "fingerprint", fingerprint(labels, self.ids), compute))

    def numbered_from(self, index: np.ndarray) -> tuple[Tensor | None, int]:
        """Another number for each class, int64 [C], those of the images at ``index`` first, and how many these are.
        None where they are all classes."""
        present = np.zeros(len(self.class_names), dtype=bool)
        labels = self.labels.numpy()[index]
        present[labels[labels >= 0]] = True
        if self.more_labels is not None:
            present[self.more_labels[np.isin(self.more_labels[:, 0], index), 1]] = True
        if present.all():
            return None, len(present)
        numbers = np.empty(len(present), dtype=np.int64)
        numbers[np.argsort(~present, kind="stable")] = np.arange(len(present))
        return torch.from_numpy(numbers), int(present.sum())

    def take(self, index: np.ndarray) -> LabelledImages:
        """The images at ``index``, in its order, with all that is known of them."""
        known: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name not in ("class_names", "more_labels") and value is not None:
                known[f.name] = _taken(value, index)
        if self.more_labels is not None:
            place = np.full(len(self.ids), -1)
            place[index] = np.arange(len(index))
            image = place[self.more_labels[:, 0]]
            known["more_labels"] = np.column_stack([image, self.more_labels[:, 1]])[image >= 0]
        return replace(self, **known)

    def subset(self, per_class: int, seed: int) -> LabelledImages:
        """These images with ``per_class`` training images of each class, drawn from ``seed`` and left in their order.

        Raises:
            ConfigError: when a class has fewer.
        """
        labels = self.labels.numpy()
        random = generator(seed, "images_per_class")
        apart = self.is_test if self.is_validation is None else self.is_test | self.is_validation
        kept = [np.flatnonzero(apart)]
        order = np.flatnonzero(~apart)[np.argsort(labels[~apart], kind="stable")]
        starts = np.searchsorted(labels[order], np.arange(len(self.class_names) + 1))
        only_apart = np.isin(np.arange(len(self.class_names)), labels[apart])
        for label, name in enumerate(self.class_names):
            members = order[starts[label] : starts[label + 1]]
            if not len(members) and only_apart[label]:
                continue  # a class that is only validated or tested on
            if len(members) < per_class:
                raise ConfigError(
                    f"data.images_per_class={per_class}: class {name!r} has only {len(members)} training images"
                )
            kept.append(random.choice(members, per_class, replace=False))
        return self.take(np.sort(np.concatenate(kept)))
