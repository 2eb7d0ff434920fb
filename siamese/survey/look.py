"""Looking at a collection: what it has, how it would be split, and what is in it twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image
from rich.progress import track

from siamese.config.data import Data
from siamese.data.duplicates import across, rows
from siamese.data.files.cache import decoded
from siamese.data.files.collection import ImageFiles
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.data.splits import Split, split_images
from siamese.errors import ConfigError
from siamese.survey.near import near_duplicates

OPENED = 2000  # files whose size is looked at


@dataclass(frozen=True)
class Survey:
    """A collection, looked at.

    Attributes:
        source: its images, decoded.
        parts: the images of train, validation and test; None where they cannot be split as was asked.
        refused: why they cannot.
        remarks: what there is to say of the split.
        skipped: what was found and not taken, by kind.
        formats: files by their suffix.
        sizes: width and height of the files that were looked at, int64 [n, 2]; none of what are no files.
        duplicates: pairs of images with the same pixels that should be apart, int64 [P, 2].
        near: pairs that look alike, and the bits in which they differ, int64 [Q, 3]; None if nobody asked.
    """

    data: Data
    source: LabelledImages
    parts: Mapping[str, np.ndarray] | None
    refused: str | None
    remarks: tuple[str, ...]
    skipped: Mapping[str, Sequence[str]]
    formats: Mapping[str, int]
    sizes: np.ndarray
    duplicates: np.ndarray
    near: np.ndarray | None

    @property
    def counts(self) -> dict[str, np.ndarray]:
        """Images of each class in all, and in each part: int64 [C]."""
        labels, classes = self.source.labels.numpy(), len(self.source.class_names)
        every = {"images": np.arange(len(labels)), **(self.parts or {})}
        return {name: np.bincount(labels[i][labels[i] >= 0], minlength=classes) for name, i in every.items()}

    def duplicate_rows(self) -> list[dict[str, str]]:
        """The rows of a table of :attr:`duplicates`."""
        return rows(self.source, self.parts or {}, self.duplicates)


def look(data: Data, seed: int, near: int | None) -> Survey:
    """Look at what ``data`` names, and at pairs that differ in at most ``near`` bits of a perceptual hash.

    Raises:
        ConfigError: when the source refuses what it was given.
        RunError: when images cannot be read.
    """
    source = found = describe(data, seed)
    files, skipped = None, {}
    if isinstance(found.images, ImageFiles):
        source = decoded(found)
        kept = np.isin(found.ids, source.ids)
        files, skipped = found.images.take(np.flatnonzero(kept)), dict(found.images.skipped)
        if not kept.all():
            skipped["files that cannot be decoded"] = found.ids[~kept].tolist()
    split, refused = None, None
    try:
        split = split_images(source, data, seed)
    except ConfigError as error:
        refused = str(error)
    parts = None if split is None else _parts(split)
    everything = {"train": np.arange(len(source.ids))}  # without parts, two classes are what can be at odds
    return Survey(
        data,
        source,
        parts,
        refused,
        () if split is None else split.remarks,
        skipped,
        {} if files is None else Counter(PurePosixPath(str(path)).suffix.lower() for path in files.paths),
        np.empty((0, 2), np.int64) if files is None else _sizes(files),
        across(source, parts or everything),
        None if near is None else near_duplicates(source.images, near),
    )


def _parts(split: Split) -> dict[str, np.ndarray]:
    return {"train": split.train, "validation": split.validation, "test": split.test}


def _sizes(files: ImageFiles) -> np.ndarray:
    """Width and height of files spread evenly over all, as their headers say; what cannot be opened has none."""
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), OPENED)).astype(int))
    found = []
    for path in track(files.paths[chosen], "looking at sizes", transient=True, disable=len(chosen) < 200):
        try:
            with Image.open(files.root / path) as image:
                found.append(image.size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue
    return np.array(found, dtype=np.int64).reshape(-1, 2)
