"""Grey images and labels in IDX files, the format of MNIST, plain or compressed."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from siamese.config.values import height_width
from siamese.data.images import LabelledImages
from siamese.data.sources.download import await_download, only_download
from siamese.errors import RunError
from siamese.memory import check_images_fit

KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")


@dataclass(frozen=True)
class IdxFiles:
    """Four IDX files, wherever they are.

    Attributes:
        name: of the data set.
        parts: what the names of the training and of the test files begin with.
        below: where else below a folder they are looked for; torchvision downloads to the first of these.
        sums: MD5 of what is in each file, however it is compressed, where that is known.
        gz_sums: MD5 of each file as it is published, compressed, where that is known.
        elsewhere: what to do instead of downloading, in words.
    """

    name: str
    parts: tuple[str, str]
    below: tuple[str, ...]
    sums: Mapping[str, str]
    gz_sums: Mapping[str, str]
    elsewhere: str

    @property
    def names(self) -> list[str]:
        return [f"{part}-{kind}" for part in self.parts for kind in KINDS]

    def folder(self, root: str | None, defaults: Sequence[Path], fetch: Callable[[Path], object] | None) -> Path:
        """Where the files are: at ``root`` or, without one, at the ``defaults``; else fetched to the last of these.

        Raises:
            RunError: when they are not there and cannot be fetched.
        """
        roots = list(defaults) if root is None else [Path(root).expanduser()]
        folders = [folder for place in roots for folder in (place, *(place / below for below in self.below))]
        found = self._first(folders)
        if found is not None:
            for place in roots:
                await_download(place, self.name)  # some of the files are there as soon as it has begun
            return found
        if fetch is None:
            raise RunError(
                f"data.root={root or 'null'}: {self.name} is not in {' or '.join(map(str, folders))}; "
                f"{f'{self.elsewhere}, ' if self.elsewhere else ''}give data.root=PATH, or set data.download=true"
            )
        try:
            with only_download(roots[-1], self.name):
                found = self._first(folders)
                if found is None:
                    fetch(roots[-1])
        except (OSError, RuntimeError) as error:  # no network, no space, or not the official files
            raise RunError(
                f"data.root={roots[-1]}: {self.name} could not be downloaded there ({' '.join(str(error).split())}); "
                f"put {', '.join(f'{name}.gz' for name in self.names)} in it"
                f"{f', or {self.elsewhere}' if self.elsewhere else ''}"
            ) from None
        return found or roots[-1] / self.below[0]

    def _first(self, folders: Sequence[Path]) -> Path | None:
        return next((folder for folder in folders if any(_there(folder, name) for name in self.names)), None)

    def read(self, folder: Path, name: str) -> Tensor:
        """The uint8 tensor in a file of ``folder``: two zero bytes, the type, the number of dimensions, each dimension
        in four bytes from the highest, the values.

        Raises:
            RunError: for a file that is missing, damaged or not the official one.
        """
        path = _there(folder, name)
        if path is None:
            raise RunError(f"{folder}: expected {name} or {name}.gz, found neither")
        try:
            raw = path.read_bytes()
            compressed = path.suffix == ".gz"
            content = bytearray(gzip.decompress(raw) if compressed else raw)
        except (OSError, EOFError, zlib.error) as error:
            raise RunError(f"{path}: cannot be read ({error})") from None
        if name in self.sums:
            _check_sum(path, content, "of its contents ", self.sums[name])
        if compressed and name in self.gz_sums:
            _check_sum(path, raw, "", self.gz_sums[name])
        dimensions = 3 if "-images-" in name else 1
        start = 4 + 4 * dimensions
        expected = bytes([0, 0, 8, dimensions])
        shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist() if len(content) > start else []
        if content[:4] != expected or len(content) - start != math.prod(shape):
            raise RunError(
                f"{path}: not an IDX file, or damaged (expected bytes {' '.join(map(str, expected))}, {dimensions} "
                f"sizes and as many values; found {' '.join(map(str, content[:4])) or 'nothing'} and sizes {shape} in "
                f"{len(content):,} bytes)"
            )
        return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)


def grey_images(
    files: IdxFiles,
    folder: Path,
    image_size: int | list[int],
    class_names: Sequence[str],
    *,
    first_label: int = 0,
    transposed: bool = False,
) -> LabelledImages:
    """The images of ``files`` as three equal channels of ``image_size``, the training part first.

    Args:
        first_label: the number of the first class in the files.
        transposed: whether rows and columns are exchanged in the files.

    Raises:
        RunError: see :meth:`IdxFiles.read`, and for images and labels that do not go together.
    """
    parts = [[files.read(folder, f"{part}-{kind}") for kind in KINDS] for part in files.parts]
    counts = [len(labels) for _, labels in parts]
    for part, (images, labels) in zip(files.parts, parts, strict=True):
        if len(images) != len(labels) or images.shape[1:] != parts[0][0].shape[1:]:
            raise RunError(
                f"{folder}: {part}: {len(labels):,} labels and images of shape {tuple(images.shape)}; expected as many "
                "of both, and one size of images"
            )
        number = labels.long() - first_label
        if len(number) and not 0 <= int(number.min()) <= int(number.max()) < len(class_names):
            raise RunError(
                f"{folder}: {part}: expected labels from {first_label} to {first_label + len(class_names) - 1}, found "
                f"{int(labels.min())} to {int(labels.max())}"
            )
    size = height_width(image_size)
    check_images_fit(sum(counts), size)
    images = torch.cat([images for images, _ in parts]).unsqueeze(1)
    if transposed:
        images = images.transpose(2, 3)
    if images.shape[2:] != size:
        images = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
    return LabelledImages(
        images.expand(-1, 3, -1, -1).contiguous(),
        torch.cat([labels for _, labels in parts]).long() - first_label,
        tuple(class_names),
        np.array([f"{part}/{i:05d}" for part, n in zip(("train", "test"), counts, strict=True) for i in range(n)]),
        np.repeat([False, True], counts),
    )


def _there(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _check_sum(path: Path, content: bytes | bytearray, of: str, expected: str) -> None:
    found = hashlib.md5(content).hexdigest()
    if found != expected:
        raise RunError(f"{path}: not the official file, or damaged (MD5 {of}{found}, expected {expected})")
