"""Every figure that a run directory has the numbers for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from siamese.errors import RunError
from siamese.figures.embedding import distance_matrix, nearest_classes, projection, similarity_histogram, spectrum
from siamese.figures.excerpt import WHOLE, Excerpt, most_confused, nearest_distances
from siamese.figures.failures import failures
from siamese.figures.images import gallery, hardest_triplets, pair_grid, sample_grid, triplet_grid
from siamese.figures.training import loss_curves, metric_curves, roc_curves
from siamese.runs.arrays import array_names, read_arrays, require_labels, require_length
from siamese.runs.read import read_metrics

Make = Callable[[], Figure]
PARTS = ("validation", "test")
TRIPLET = ("images", "labels", "distances")
ELLIPSES = ("centres", "widths", "heights", "angles")


def from_arrays(run: Path) -> Iterator[tuple[str, Figure]]:
    """The name and the figure of everything that ``run`` holds in arrays/*.npz and metrics.csv, drawn
    one by one.

    Raises:
        RunError: when a file of arrays cannot be read, lacks an array that its figure needs, or is of other images
            or classes than the rest.
    """
    for name, make in drawings(run):
        yield name, make()


def drawings(run: Path) -> Iterator[tuple[str, Make]]:
    """The same, each figure still to be made: what one of them raises leaves the others to be drawn."""
    folder = run / "arrays"

    def has(name: str) -> bool:
        return (folder / f"{name}.npz").exists()

    def read(name: str, *keys: str) -> dict[str, Any]:
        return read_arrays(folder / f"{name}.npz", *keys)

    if has("samples"):
        yield "samples", partial(_samples, folder / "samples.npz")
        if "triplet_images" in _names(folder / "samples.npz"):
            yield "triplets", partial(_triplets, folder / "samples.npz")
    for part in ("train", "test"):
        if has(f"pairs_{part}"):
            yield f"pairs_{part}", partial(_pairs, folder / f"pairs_{part}.npz", part)
    yield from _curves(run / "metrics.csv")
    if there := [part for part in PARTS if has(f"roc_{part}")]:
        yield "roc", lambda: roc_curves({part: _roc(**read(f"roc_{part}", "fpr", "tpr")) for part in there})
    if known := [part for part in PARTS if has(f"spectrum_{part}")]:
        yield (
            "spectrum",
            lambda: spectrum({part: read(f"spectrum_{part}", "singular_values")["singular_values"] for part in known}),
        )
    for part in PARTS:
        yield from _of_part(folder, part)


def _of_part(folder: Path, part: str) -> Iterator[tuple[str, Make]]:
    def path(name: str) -> Path:
        return folder / f"{name}_{part}.npz"

    def own() -> dict[str, Any]:
        return read_arrays(folder / f"{part}.npz", "labels", "class_names")

    if path("histogram").exists():
        keys = ("edges", "positive", "negative")
        yield f"similarities_{part}", lambda: similarity_histogram(**read_arrays(path("histogram"), *keys), part=part)
    if not (folder / f"{part}.npz").exists():
        return
    if path("distances").exists():
        yield f"distances_{part}", lambda: _distances(path("distances"), own()["class_names"], part)
    if path("projection").exists():
        yield f"projection_{part}", lambda: _projection(path, own(), part, normalised=False)
        yield f"projection_normalised_{part}", lambda: _projection(path, own(), part, normalised=True)
    if path("gallery").exists():
        yield f"gallery_{part}", lambda: _gallery(path("gallery"), own()["class_names"], part)
    if path("hardest").exists():
        yield f"hardest_{part}", lambda: _hardest(path("hardest"), own()["class_names"], part)
    if path("failures").exists():
        yield f"failures_{part}", lambda: _failures(path("failures"), own()["class_names"], part)


def _samples(path: Path) -> Figure:
    counts = ["class_counts"] if "class_counts" in _names(path) else []  # runs of earlier versions have none
    found = read_arrays(path, "images", "labels", "class_names", *counts)
    return sample_grid(found["images"], found["labels"], found["class_names"].tolist(), found.get("class_counts"))


def _triplets(path: Path) -> Figure:
    found = read_arrays(path, "class_names", *(f"triplet_{what}" for what in TRIPLET))
    images, labels, distances = (found[f"triplet_{what}"] for what in TRIPLET)
    return triplet_grid(images, labels, distances, found["class_names"].tolist())


def _pairs(path: Path, part: str) -> Figure:
    found: dict[str, Any] = read_arrays(path, "images", "labels", "distances", "threshold", "class_names")
    return pair_grid(**found, part=part)


def _distances(path: Path, class_names: np.ndarray, part: str) -> Figure:
    if "nearest" in _names(path):
        found = read_arrays(path, "nearest", "distances")
        require_length(path, found["nearest"], len(class_names))
        return nearest_classes(**found, class_names=class_names.tolist(), part=part)
    found = read_arrays(path, "matrix")
    require_length(path, found["matrix"], len(class_names))
    return distance_matrix(found["matrix"], class_names.tolist(), part)


def _projection(path: Callable[[str], Path], own: dict[str, Any], part: str, *, normalised: bool) -> Figure:
    known = [name for name in ("coverage", "positions") if name in _names(path("projection"))]
    found = read_arrays(path("projection"), "points", "explained_variance_ratio", *ELLIPSES, *known)
    labels = own["labels"]
    if "positions" in known:
        require_labels(path("projection"), found["positions"], len(labels))
        labels = labels[found["positions"]]
    require_length(path("projection"), found["points"], len(labels))
    return projection(
        found["points"],
        labels,
        own["class_names"].tolist(),
        {key: found[key] for key in ELLIPSES},
        found["explained_variance_ratio"],
        part,
        normalised=normalised,
        coverage=float(found["coverage"]) if "coverage" in known else None,
        excerpt=_confused(path("distances"), len(own["class_names"])),
    )


def _confused(path: Path, classes: int) -> Excerpt | None:
    """The most confused of many classes, where it is known how far they are apart."""
    if classes <= WHOLE or not path.exists():
        return None
    if "nearest" in _names(path):
        away = read_arrays(path, "distances")["distances"]
        away = np.where(np.isfinite(away), away, np.inf).min(axis=1, initial=np.inf)
        away = np.where(np.isfinite(away), away, np.nan)
    else:
        away = nearest_distances(read_arrays(path, "matrix")["matrix"])
    require_length(path, away, classes)
    return most_confused(away)


def _gallery(path: Path, class_names: np.ndarray, part: str) -> Figure:
    keys = ("query_images", "query_labels", "neighbour_images", "neighbour_labels", "cosines")
    found = read_arrays(path, *keys)
    for key in ("query_labels", "neighbour_labels"):
        require_labels(path, found[key], len(class_names))
    return gallery(**found, class_names=class_names.tolist(), part=part)


def _failures(path: Path, class_names: np.ndarray, part: str) -> Figure:
    found: dict[str, Any] = read_arrays(path, "images", "labels", "cosines", "ranks")
    require_labels(path, found["labels"], len(class_names))
    return failures(**found, class_names=class_names.tolist(), part=part)


def _hardest(path: Path, class_names: np.ndarray, part: str) -> Figure:
    found = read_arrays(path, *TRIPLET)
    require_labels(path, found["labels"], len(class_names))
    return hardest_triplets(**found, class_names=class_names.tolist(), part=part)


def _names(path: Path) -> list[str]:
    """The arrays of ``path``; none where it is damaged, as reading it will say."""
    try:
        return array_names(path)
    except RunError:
        return []


def _curves(path: Path) -> Iterator[tuple[str, Make]]:
    try:
        rows = read_metrics(path)
    except RunError:
        yield "loss_curves", lambda: loss_curves(read_metrics(path), ["loss"])  # raises it again, with a name
        return
    columns = dict.fromkeys(column for row in rows for column in row)
    # train/embeddings is how many embeddings the loss saw at once, which is no loss
    terms = [name for c in columns if c.startswith("train/") and (name := c.removeprefix("train/")) != "embeddings"]
    if terms:
        yield "loss_curves", lambda: loss_curves(rows, terms)
    if any(c.startswith("val/") and f"train/{c.removeprefix('val/')}" not in columns for c in columns):
        yield "metric_curves", lambda: metric_curves(rows)


def _roc(fpr: np.ndarray, tpr: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    return fpr, tpr, _area(fpr, tpr)


def _area(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """The area under the curve, by the trapezoidal rule."""
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())
