"""Where labelled images come from. Every source gives uint8 images held once in memory."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from siamese.artifacts import fingerprint
from siamese.data.draws import generator
from siamese.errors import ConfigError, RunError
from siamese.schema import Data

log = logging.getLogger(__name__)


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


def load(data: Data, seed: int) -> LabelledImages:
    """Load ``data.source``; ``data.images_per_class`` keeps that many training images of each
    class, drawn from ``seed`` and left in their order.

    Raises:
        ConfigError: when a class has fewer images than ``data.images_per_class``.
        RunError: when the source cannot be found, downloaded or read.
    """
    if data.source == "cifar10":
        loaded = _cifar10(data)
    elif data.source == "digits":
        loaded = _digits(data.image_size)
    elif data.source == "fashion_mnist":
        from siamese.data.fashion_mnist import fashion_mnist

        loaded = fashion_mnist(data)
    else:
        from siamese.data.folder import image_folder

        loaded = image_folder(data)
    return loaded if data.images_per_class is None else _subset(loaded, data.images_per_class, seed)


def _subset(full: LabelledImages, per_class: int, seed: int) -> LabelledImages:
    labels = full.labels.numpy()
    random = generator(seed, "images_per_class")
    kept = [np.flatnonzero(full.is_test)]
    for label, name in enumerate(full.class_names):
        members = np.flatnonzero((labels == label) & ~full.is_test)
        if len(members) < per_class:
            raise ConfigError(
                f"data.images_per_class={per_class}: class {name!r} has only {len(members)} training images"
            )
        kept.append(random.choice(members, per_class, replace=False))
    index = np.sort(np.concatenate(kept))
    return LabelledImages(
        full.images[index], full.labels[index], full.class_names, full.ids[index], full.is_test[index]
    )


def _cifar10(data: Data) -> LabelledImages:
    from torchvision.datasets import CIFAR10

    root = Path(data.root or "data").expanduser()
    parts = []
    for train in (True, False):
        try:
            parts.append(CIFAR10(root, train=train, download=data.download))
        except OSError as error:  # URLError is one: no network, no space, no permission
            _check_archive(root / CIFAR10.filename, CIFAR10.tgz_md5)
            raise RunError(
                f"data.root={root}: CIFAR-10 could not be downloaded there ({error}); "
                "put cifar-10-python.tar.gz in it, or use data=image_folder data.root=PATH"
            ) from None
        except Exception as error:  # torchvision's word for files that are not there or not as they should be
            _check_archive(root / CIFAR10.filename, CIFAR10.tgz_md5)
            raise RunError(
                f"data.root={root}: CIFAR-10 is missing, incomplete or damaged there "
                f"({' '.join(str(error).split())}); remove cifar-10-* from it, and set data.download=true"
            ) from None
    names = [f"{'train' if part.train else 'test'}/{i:05d}" for part in parts for i in range(len(part.data))]
    pixels = torch.cat([torch.from_numpy(part.data) for part in parts])
    images = pixels.permute(0, 3, 1, 2).contiguous()
    if images.shape[2:] != (data.image_size, data.image_size):
        images = torch.nn.functional.interpolate(
            images, (data.image_size, data.image_size), mode="bilinear", antialias=True
        )
    return LabelledImages(
        images,
        torch.tensor([*parts[0].targets, *parts[1].targets]),
        tuple(parts[0].classes),
        np.array(names),
        np.repeat([False, True], [len(part.data) for part in parts]),
    )


def _check_archive(archive: Path, expected: str) -> None:
    """Refuse an archive whose bytes are not the official ones; none is as good."""
    if not archive.is_file():
        return
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != expected:
        raise RunError(
            f"{archive}: the archive is incomplete or damaged (MD5 {found}, expected {expected}); replace it, or "
            "remove it and set data.download=true"
        )


def _digits(size: int) -> LabelledImages:
    """scikit-learn's 1,797 digits (0 to 16 grey, 8x8) as 3 x size x size; every fifth image of
    each class, in the package's order, is the test part."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = torch.from_numpy(bunch.images).float().mul(255 / 16).unsqueeze(1)
    grown = torch.nn.functional.interpolate(grey, (size, size), mode="bilinear", align_corners=False)
    labels = torch.from_numpy(bunch.target).long()
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(bunch.target == label)[4::5]] = True
    return LabelledImages(
        grown.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(),
        labels,
        tuple(str(d) for d in range(10)),
        np.array([f"digits/{i:04d}" for i in range(len(labels))]),
        is_test,
    )
