"""Image files that cannot be decoded: refused together, or left out where no class goes with them."""

from __future__ import annotations

import logging

import numpy as np

from siamese.data.files.collection import ImageFiles
from siamese.data.images import LabelledImages
from siamese.decoding.names import SHOWN, counted, few, one_line
from siamese.errors import RunError

log = logging.getLogger(__name__)


def without(source: LabelledImages, damaged: dict[str, str]) -> LabelledImages:
    """``source`` without the files ``damaged``, of which it says why each cannot be decoded.

    Raises:
        RunError: under ``data.damaged=refuse``; when none would be left; and when all images that a class has in one of
            the parts would go.
    """
    files = source.images
    assert isinstance(files, ImageFiles)
    root = one_line(files.root)
    of = f"{len(damaged):,} of {counted(len(set(files.paths)), 'image')} cannot be decoded: {_reasons(damaged)}"
    if files.decoding.damaged == "refuse":
        raise RunError(f"data.root={root}: {of}; repair or remove them, or set data.damaged=skip")
    left = np.array([path not in damaged for path in files.paths])
    if not left.any():
        raise RunError(f"data.root={root}: {of}; none is left")
    gone = sorted(_classes(source, np.ones(len(left), bool)) - _classes(source, left))
    if gone:
        lost = few([f"{source.class_names[label]}{f' ({part})' * bool(part)}" for label, part in gone])
        raise RunError(f"data.root={root}: {of}; no image is left of {counted(len(gone), 'class', 'classes')}: {lost}")
    log.warning("%s: left out what is damaged: %s", root, of)
    return source.take(np.flatnonzero(left))


def _reasons(damaged: dict[str, str]) -> str:
    shown = "; ".join(f"{one_line(path)}: {one_line(damaged[path])}" for path in list(damaged)[:SHOWN])
    return shown + (f"; and {len(damaged) - SHOWN:,} more" if len(damaged) > SHOWN else "")


def _classes(source: LabelledImages, chosen: np.ndarray) -> set[tuple[int, str]]:
    """The classes of the images ``chosen``, bool [N], with the parts that the source has them in."""
    part = np.where(source.is_test, "test", "")
    if source.is_validation is not None:
        part = np.where(source.is_validation, "validation", part)
    if source.roles is not None:
        part = np.where(source.roles == "", part, source.roles)
    first = np.column_stack([np.arange(len(chosen)), source.labels.numpy()])
    both = first if source.more_labels is None else np.concatenate([first, source.more_labels])
    return {(int(label), str(part[image])) for image, label in both if label >= 0 and chosen[image]}
