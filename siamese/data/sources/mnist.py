"""Data sets in the format of MNIST: handwritten digits, letters and kana, 28x28 grey."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from siamese.data.images import LabelledImages
from siamese.data.sources.idx import IdxFiles, grey_images


def mnist(root: str | None, download: bool, image_size: int | list[int]) -> LabelledImages:
    """MNIST (LeCun et al. 1998): 60,000 training and 10,000 test digits as 3 x image_size x image_size.

    The files are looked for in ``root`` (null is ./data) and in MNIST/raw below it, where torchvision
    puts them; ``download`` fetches what is in neither.

    Raises:
        RunError: for files that are missing, damaged or cannot be downloaded.
    """
    from torchvision.datasets import MNIST

    return _published("MNIST", MNIST, root, download, image_size, [str(digit) for digit in range(10)])


def kmnist(root: str | None, download: bool, image_size: int | list[int]) -> LabelledImages:
    """Kuzushiji-MNIST (Clanuwat et al. 2018): 60,000 training and 10,000 test kana of old Japanese books, 10 of them,
    as 3 x image_size x image_size; found and fetched as :func:`mnist`.

    Raises:
        RunError: for files that are missing, damaged or cannot be downloaded.
    """
    from torchvision.datasets import KMNIST

    return _published("KMNIST", KMNIST, root, download, image_size, KMNIST.classes)


def emnist(
    root: str | None,
    download: bool,
    image_size: int | list[int],
    split: Literal["byclass", "bymerge", "balanced", "letters", "digits", "mnist"],
) -> LabelledImages:
    """A split of EMNIST (Cohen et al. 2017), handwritten digits and letters, as 3 x image_size x image_size.

    The files are looked for in ``root`` (null is ./data), in EMNIST/raw below it, where torchvision puts
    them, and in gzip, where the official archive unpacks them; ``download`` fetches what is in none.
    They hold each image with rows and columns exchanged, which is undone here.

    Args:
        split: which classes, and how many images: those of the paper's table II.

    Raises:
        RunError: for files that are missing, damaged or cannot be downloaded.
    """
    from torchvision.datasets import EMNIST

    files = IdxFiles(
        "EMNIST",
        (f"emnist-{split}-train", f"emnist-{split}-test"),
        ("EMNIST/raw", "gzip"),
        sums={},
        gz_sums={},  # only the archive of all splits has one, which torchvision checks
        elsewhere="",
    )
    fetch = (lambda folder: EMNIST(folder, split=split, download=True)) if download else None
    names = [name for name in EMNIST.classes_split_dict[split] if name != "N/A"]
    folder = files.folder(root, [Path("data")], fetch)
    return grey_images(files, folder, image_size, names, first_label=1 if split == "letters" else 0, transposed=True)


def _published(
    name: str, kind: type, root: str | None, download: bool, image_size: int | list[int], class_names: list[str]
) -> LabelledImages:
    """A data set that torchvision fetches file by file, as ``kind``."""
    sums = {file.removesuffix(".gz"): md5 for file, md5 in kind.resources}  # type: ignore[attr-defined]
    files = IdxFiles(name, ("train", "t10k"), (f"{name}/raw",), sums={}, gz_sums=sums, elsewhere="")
    fetch = (lambda folder: kind(folder, download=True)) if download else None
    return grey_images(files, files.folder(root, [Path("data")], fetch), image_size, class_names)
