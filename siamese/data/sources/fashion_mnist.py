"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017) from its IDX files, plain or compressed, wherever they are."""

from __future__ import annotations

from pathlib import Path

from siamese.data.images import LabelledImages
from siamese.data.sources.idx import IdxFiles, grey_images

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

    files = IdxFiles(
        "Fashion-MNIST",
        ("train", "t10k"),
        ("FashionMNIST/raw",),
        sums=FILES,
        gz_sums={},
        elsewhere="install Debian's dataset-fashion-mnist",
    )
    fetch = (lambda folder: FashionMNIST(folder, download=True)) if download else None
    return grey_images(files, files.folder(root, [DEBIAN, Path("data")], fetch), image_size, FashionMNIST.classes)
