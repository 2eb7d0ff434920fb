"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) from its IDX files, plain or compressed, wherever they are."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from siamese.config.values import height_width
from siamese.data.images import LabelledImages
from siamese.errors import RunError
from siamese.memory import check_images_fit

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
# MD5 of what is in each file, however it is compressed.
FILES = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}


def fashion_mnist(root: str | None, download: bool, image_size: int | list[int]) -> LabelledImages:
    """60,000 training and 10,000 test images of clothes, 28x28 grey, as 3 x image_size x image_size.

    The files are looked for in ``root`` (and in FashionMNIST/raw below it, where torchvision puts
    them); without one, in Debian's folder and in ./data. ``download`` fetches what is in none.

    Raises:
        RunError: for files that are missing, damaged or cannot be downloaded.
    """
    from torchvision.datasets import FashionMNIST

    folder = _folder(root, download)
    parts = [[_idx(folder, f"{part}-{kind}") for kind in ("images-idx3", "labels-idx1")] for part in ("train", "t10k")]
    counts = [len(labels) for _, labels in parts]
    size = height_width(image_size)
    check_images_fit(sum(counts), size)
    images = torch.cat([images for images, _ in parts]).unsqueeze(1)
    if images.shape[2:] != size:
        images = torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)
    return LabelledImages(
        images.expand(-1, 3, -1, -1).contiguous(),
        torch.cat([labels for _, labels in parts]).long(),
        tuple(FashionMNIST.classes),
        np.array([f"{part}/{i:05d}" for part, n in zip(("train", "test"), counts, strict=True) for i in range(n)]),
        np.repeat([False, True], counts),
    )


def _folder(root: str | None, download: bool) -> Path:
    """Where the files are."""
    from torchvision.datasets import FashionMNIST

    roots = [DEBIAN, Path("data")] if root is None else [Path(root).expanduser()]
    folders = [folder for place in roots for folder in (place, place / "FashionMNIST" / "raw")]
    for folder in folders:
        if any(_found(folder, name) for name in FILES):
            return folder
    if not download:
        raise RunError(
            f"data.root={root or 'null'}: Fashion-MNIST is not in {' or '.join(map(str, folders))}; install "
            "Debian's dataset-fashion-mnist, give data.root=PATH, or set data.download=true"
        )
    try:
        FashionMNIST(roots[-1], download=True)
    except (OSError, RuntimeError) as error:  # no network, no space, or not the official files
        raise RunError(
            f"data.root={roots[-1]}: Fashion-MNIST could not be downloaded there ({' '.join(str(error).split())}); "
            f"put {', '.join(f'{name}.gz' for name in FILES)} in it, or install Debian's dataset-fashion-mnist"
        ) from None
    return folders[-1]


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _idx(folder: Path, name: str) -> Tensor:
    """The uint8 tensor in an IDX file: two zero bytes, the type, the number of dimensions, each
    dimension in four bytes from the highest, the values."""
    name += "-ubyte"
    path = _found(folder, name)
    if path is None:
        raise RunError(f"{folder}: expected {name} or {name}.gz, found neither")
    try:
        raw = path.read_bytes()
        content = bytearray(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except (OSError, EOFError, zlib.error) as error:
        raise RunError(f"{path}: cannot be read ({error})") from None
    found = hashlib.md5(content).hexdigest()
    if found != FILES[name]:
        raise RunError(
            f"{path}: not the official file, or damaged (MD5 of its contents {found}, expected {FILES[name]})"
        )
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content, ">u4", content[3], offset=4).tolist()
    return torch.frombuffer(content, dtype=torch.uint8, offset=start).view(shape)
