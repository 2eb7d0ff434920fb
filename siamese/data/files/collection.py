"""A collection of image files as a data set whose images have not been decoded yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from siamese.data.images import LabelledImages
from siamese.decoding.decode import DamagedError, Decoding, decode
from siamese.decoding.names import one_line, visible
from siamese.errors import RunError


class ImageFiles:
    """Images uint8 [N, 3, H, W] that are files, each decoded whenever it is asked for.

    Attributes:
        root: the folder that ``paths`` are below.
        paths: [N], relative, with ``/`` between their parts.
        skipped: what else is below ``root`` and was not taken: the paths of each kind.
    """

    def __init__(
        self,
        root: Path,
        paths: Sequence[str] | np.ndarray,
        decoding: Decoding,
        skipped: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.root, self.paths, self.decoding = root, np.asarray(paths, dtype=object), decoding
        self.skipped = skipped or {}

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.paths), 3, *self.decoding.size)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any, /) -> Tensor:
        """The images at ``index``, int64 [n] or a slice, decoded.

        Raises:
            RunError: for a file that is no image, or a damaged one.
        """
        return torch.from_numpy(np.stack([self._one(path) for path in self.paths[index]]))

    def _one(self, path: str) -> np.ndarray:
        try:
            return decode(self.root / path, self.decoding).pixels
        except DamagedError as error:
            raise RunError(f"{one_line(self.root / path)}: {error}") from None

    def take(self, index: np.ndarray) -> ImageFiles:
        """The files at ``index`` alone."""
        return ImageFiles(self.root, self.paths[index], self.decoding, self.skipped)


def collection(
    root: Path,
    paths: Sequence[str],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    decoding: Decoding,
    *,
    parts: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    more_labels: Sequence[tuple[int, int]] | None = None,
    skipped: Mapping[str, Sequence[str]] | None = None,
) -> LabelledImages:
    """The data set of the files ``paths`` below ``root``, of which none has been decoded.

    Args:
        labels: [N], indices into ``class_names``, or NO_CLASS.
        parts: [N], of each "train", "val", "test", "query" or "gallery" (which are of the test part), or "" where the
            source says nothing.
        groups: [N], the name of what each image belongs to.
        more_labels: (image, label) of the classes of an image besides that in ``labels``.
        skipped: see :class:`ImageFiles`.

    Raises:
        RunError: when there is no file.
    """
    if not len(paths):
        raise RunError(f"data.root={one_line(root)}: expected images, found none")
    part = np.array([""] * len(paths) if parts is None else parts)
    roles = np.where(np.isin(part, ("query", "gallery")), part, "")
    validation = part == "val"
    return LabelledImages(
        ImageFiles(root, paths, decoding, skipped),
        torch.as_tensor(np.asarray(labels), dtype=torch.int64),
        tuple(class_names),
        np.array(visible(paths)),
        np.isin(part, ("test", "query", "gallery")),
        validation if validation.any() else None,
        None if groups is None else np.array(groups),
        roles if roles.any() else None,
        None if not more_labels else np.array(more_labels, dtype=np.int64),
    )
