"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011): photographs of birds by species."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from siamese.data.files import Decoding
from siamese.data.files.source import source_of_files
from siamese.data.images import LabelledImages
from siamese.data.sources.layout import Benchmark, Listing, collected, lines, train_or_test
from siamese.errors import RunError, several

CUB200 = Benchmark(
    "CUB-200-2011",
    "https://www.vision.caltech.edu/datasets/cub_200_2011/",
    "CUB_200_2011.tgz",
    "CUB_200_2011",
    {"train": 5864, "test": 5924},
)


@source_of_files
def cub200(root: str, decoding: Decoding) -> LabelledImages:
    """11,788 birds of 200 species; species 1 to 100 train, 101 to 200 test (Song et al. 2016, section 5).

    Args:
        root: the folder CUB_200_2011, or that it is in.

    Raises:
        ConfigError: when the collection is not there.
        RunError: for lists that are cut, malformed or name what is not there.
    """
    folder = CUB200.unpacked(root, "images.txt", "image_class_labels.txt", "classes.txt", "images")
    names = _numbered(folder / "classes.txt", {"class_id": int, "class_name": str})
    paths = _numbered(folder / "images.txt", {"image_id": int, "image_name": str})
    file = folder / "image_class_labels.txt"
    classes = _numbered(file, {"image_id": int, "class_id": int})
    for known, found, where in ((paths, classes, "images.txt"), (names, classes.values(), "classes.txt")):
        odd = [line for line, number in enumerate(found, 1) if number not in known]
        if odd:
            raise RunError(
                f"{file}: {len(odd):,} lines have a number that is not in {where} (lines {several(odd)}); one of them "
                "is cut or damaged"
            )
    if len(classes) < len(paths):
        raise RunError(
            f"{file}:{len(classes)}: the last line; expected one for each of the {len(paths):,} images in images.txt"
        )
    listing = Listing()
    for image, path in paths.items():
        listing.add(f"images/{path}", classes[image], train_or_test(classes[image], 100))
    return collected(CUB200, folder, folder / "images.txt", listing, decoding, names.__getitem__)


def _numbered(file: Path, columns: dict[str, type]) -> dict[int, Any]:
    """The second of the ``columns`` of ``file``, by the number in the first."""
    found = {}
    for line, (number, value) in lines(file, columns):
        if number in found:
            raise RunError(f"{file}:{line}: expected another number in each line, found {number} again")
        found[number] = value
    return found
