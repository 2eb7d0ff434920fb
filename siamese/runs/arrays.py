"""arrays/NAME.npz: what each holds, and the only reader of them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np

from siamese.errors import RunError
from siamese.runs.bounds import one_line
from siamese.runs.read import LARGEST

MOST_CLASSES = 10**6
KINDS = {"label": "iu", "whole": "iu", "text": "U", "number": "f", "gap": "f"}  # NumPy's letters
# By the name of the file, without its part of the data: what an array holds, and its dimensions. Those of one letter
# are the same in all arrays of the file; a gap is a number that may be NaN, where something is not known.
LAYOUT = {
    "samples": {
        "images": "image n 3 h w",
        "labels": "label n",
        "class_names": "text c",
        "class_counts": "whole c",
        "triplet_images": "image t 3 3 h w",
        "triplet_labels": "label t 3",
        "triplet_distances": "gap t 2",
    },
    "part": {
        "embeddings": "number n d",
        "labels": "label n",
        "ids": "text n",
        "class_names": "text c",
        "triplets": "whole t 3",
    },
    "logits": {"classes": "whole c", "predicted": "whole n", "logits": "number n c"},
    "roc": {"fpr": "number k", "tpr": "number k", "thresholds": "number k"},
    "histogram": {"edges": "number k+1", "positive": "whole k", "negative": "whole k"},
    "spectrum": {"singular_values": "number k"},
    "distances": {
        "matrix": "gap c c",
        "nearest": "whole c k",
        "distances": "gap c k",
        "within": "gap c",
        "confused": "whole p 2",
    },
    "projection": {
        "points": "number n 2",
        "positions": "whole n",
        "explained_variance_ratio": "number 2",
        "coverage": "number",
        "centres": "gap c 2",
        "widths": "gap c",
        "heights": "gap c",
        "angles": "gap c",
        **dict.fromkeys(("ellipse_areas", "normalised_areas", "legacy_areas"), "gap c"),
        "mean": "number d",
        "components": "number 2 d",
    },
    "failures": {
        "images": "image f 3 3 h w",
        "labels": "label f 3",
        "ids": "text f 3",
        "cosines": "number f 2",
        "ranks": "whole f",
    },
    "gallery": {
        "query_ids": "text q",
        "query_labels": "label q",
        "query_images": "image q 3 h w",
        "neighbour_ids": "text q k",
        "neighbour_labels": "label q k",
        "neighbour_images": "image q k 3 h w",
        "cosines": "number q k",
    },
    "hardest": {"images": "image t 3 3 h w", "labels": "label t 3", "ids": "text t 3", "distances": "number t 2"},
    "pairs": {
        "images": "image p 2 3 h w",
        "labels": "label p 2",
        "distances": "number p",
        "threshold": "number",
        "class_names": "text c",
    },
}


def read_arrays(path: Path, *keys: str) -> dict[str, np.ndarray]:
    """The arrays ``keys`` of ``path``, or all that it holds, as :data:`LAYOUT` says where it does.

    Raises:
        RunError: when the file is missing or damaged, or lacks one of them, or one is of another kind or shape.
    """
    try:
        found = _load(path, keys)
    except FileNotFoundError:
        raise RunError(f"{path}: not found; expected a run directory's arrays") from None
    except RunError:
        raise
    except Exception as error:  # a damaged file raises whatever zipfile, zlib or NumPy meet first
        raise RunError(f"{path}: could not be read as arrays ({one_line(error)})") from None
    layout = layout_of(path)
    sizes: dict[str, int] = {}
    for key, array in found.items():
        _check(f"{path}: {key}", array, layout.get(key), sizes)
    classes = len(found["class_names"]) if "class_names" in found else MOST_CLASSES
    for key, array in found.items():
        if layout.get(key, "").startswith("label"):
            require_labels(f"{path}: {key}", array, classes)
    return found


def layout_of(path: Path) -> dict[str, str]:
    """What the arrays of ``path`` are, by their names."""
    return LAYOUT.get(re.sub(r"_?(validation|test|train)$", "", path.stem) or "part", {})


def require_labels(name: object, labels: np.ndarray, classes: int) -> None:
    """Refuse ``labels`` that are no places among so many ``classes``; an image without a class has -1.

    Raises:
        RunError: naming ``name``.
    """
    if not labels.size or (labels == -1).all():
        return
    if not -1 <= labels.min() <= labels.max() < classes:
        low, high = labels.min(), labels.max()
        raise RunError(f"{name}: expected labels of {classes:,} classes, found {low} to {high}")


def require_length(path: Path, array: np.ndarray, length: int) -> None:
    """Refuse an array that is not of so many images or classes as the others of its run.

    Raises:
        RunError: naming ``path``.
    """
    if len(array) != length:
        raise RunError(f"{path}: is of {len(array)}; expected {length}, as the other arrays of the run are")


def array_names(path: Path) -> list[str]:
    """The names of the arrays in ``path``; nothing is read but these.

    Raises:
        RunError: when the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except Exception as error:
        raise RunError(f"{path}: could not be read as arrays ({one_line(error)})") from None


def array_shape(path: Path, key: str) -> tuple[int, ...]:
    """The shape of the array ``key`` of ``path``, of which no more than the beginning is read.

    Raises:
        RunError: when the file or the array is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{key}.npy") as stored:
            version = np.lib.format.read_magic(stored)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return tuple(read(stored)[0])
    except Exception as error:  # a damaged file raises whatever zipfile, zlib or NumPy meet first
        raise RunError(f"{path}: {key} could not be read ({one_line(error)})") from None


def _load(path: Path, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
    if path.exists() and not path.is_file():
        raise ValueError("expected a file, found something else")
    with zipfile.ZipFile(path) as file:  # a run's arrays are stored as they are; what claims more would be inflated
        claimed, size = sum(member.file_size for member in file.infolist()), path.stat().st_size
    if claimed > size:
        raise ValueError(f"{claimed:,} bytes in a file of {size:,}")
    with np.load(path, allow_pickle=False) as stored:
        missing = [key for key in keys if key not in stored.files]
        if missing:
            raise RunError(f"{path}: {missing[0]} is missing; expected {', '.join(keys)}")
        return {key: np.asarray(stored[key]) for key in keys or stored.files}


def _check(name: str, array: np.ndarray, layout: str | None, sizes: dict[str, int]) -> None:
    """Refuse an array of another kind or shape than ``layout``, given the ``sizes`` of dimensions known so far."""
    if array.dtype.kind in "fc":
        known = array if layout is not None and layout.startswith("number") else array[~np.isnan(array)]
        if not float(np.abs(known).max(initial=0)) <= LARGEST:
            raise RunError(f"{name}: expected numbers up to {LARGEST:g} in size, found others")
    if layout is None:
        return
    kind, *wanted = layout.split()
    is_kind = array.dtype == np.uint8 if kind == "image" else array.dtype.kind in KINDS[kind]
    if not is_kind or array.ndim != len(wanted):
        found = f"{array.dtype} of {array.ndim}"
        raise RunError(f"{name}: expected {kind}s of {len(wanted)} dimensions, found {found}")
    for dimension, size in zip(wanted, array.shape, strict=True):
        letter, _, more = dimension.partition("+")
        expected = int(letter) if letter.isdecimal() else sizes.setdefault(letter, size - int(more or 0))
        if size != expected + int(more or 0):
            raise RunError(f"{name}: expected a dimension of {expected + int(more or 0)}, found {size}")
