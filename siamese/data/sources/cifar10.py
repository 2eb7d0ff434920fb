"""CIFAR-10 from its official archive."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from siamese.config.values import height_width
from siamese.data.images import LabelledImages
from siamese.data.sources.download import only_download
from siamese.errors import RunError
from siamese.memory import check_images_fit

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10


def cifar10(root: str | None, download: bool, image_size: int | list[int]) -> LabelledImages:
    """CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32, as 3 x image_size x image_size.

    Args:
        root: the folder that has cifar-10-batches-py or the archive; null is ./data.
        download: whether to fetch the official archive where it is missing.

    Raises:
        RunError: for an archive that is missing, damaged or cannot be downloaded.
    """
    from torchvision.datasets import CIFAR10

    size = height_width(image_size)
    folder = Path(root or "data").expanduser()
    try:
        parts = _parts(folder, download)
    except OSError as error:  # URLError is one: no network, no space, no permission
        _check_archive(folder / CIFAR10.filename, CIFAR10.tgz_md5)
        raise RunError(
            f"data.root={folder}: CIFAR-10 could not be downloaded there ({error}); "
            "put cifar-10-python.tar.gz in it, or use data=image_folder data.root=PATH"
        ) from None
    except Exception as error:  # torchvision's word for files that are not there or not as they should be
        _check_archive(folder / CIFAR10.filename, CIFAR10.tgz_md5)
        raise RunError(
            f"data.root={folder}: CIFAR-10 is missing, incomplete or damaged there "
            f"({' '.join(str(error).split())}); remove cifar-10-* from it, and set data.download=true"
        ) from None
    names = [f"{'train' if part.train else 'test'}/{i:05d}" for part in parts for i in range(len(part.data))]
    check_images_fit(len(names), size)
    pixels = torch.cat([torch.from_numpy(part.data) for part in parts])
    images = pixels.permute(0, 3, 1, 2).contiguous()
    if images.shape[2:] != size:
        images = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
    return LabelledImages(
        images,
        torch.tensor([*parts[0].targets, *parts[1].targets]),
        tuple(parts[0].classes),
        np.array(names),
        np.repeat([False, True], [len(part.data) for part in parts]),
    )


def _parts(folder: Path, download: bool) -> list[CIFAR10]:
    """The training and the test part in ``folder``, downloaded where they are missing and ``download`` says so."""
    from torchvision.datasets import CIFAR10

    try:
        return [CIFAR10(folder, train=train) for train in (True, False)]
    except RuntimeError:
        if not download:
            raise
    with only_download(folder, "CIFAR-10"):  # another process may have done it since
        return [CIFAR10(folder, train=train, download=True) for train in (True, False)]


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
