"""Every figure that a run directory has the numbers for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from siamese.figures.embedding import distance_matrix, projection, similarity_histogram, spectrum
from siamese.figures.images import gallery, hardest_triplets, pair_grid, sample_grid, triplet_grid
from siamese.figures.training import loss_curves, metric_curves, roc_curves
from siamese.runs.arrays import array_names, read_arrays, require_labels, require_length
from siamese.runs.read import read_metrics

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
    folder = run / "arrays"

    def has(name: str) -> bool:
        return (folder / f"{name}.npz").exists()

    def read(name: str, *keys: str) -> dict[str, Any]:
        return read_arrays(folder / f"{name}.npz", *keys)

    if has("samples"):
        grid = read("samples", "images", "labels", "class_names")
        yield "samples", sample_grid(**grid)
        if "triplet_images" in array_names(folder / "samples.npz"):
            triplets = read("samples", "class_names", *(f"triplet_{what}" for what in TRIPLET))
            images, labels, distances = (triplets[f"triplet_{what}"] for what in TRIPLET)
            yield "triplets", triplet_grid(images, labels, distances, grid["class_names"])
    for part in ("train", "test"):
        if has(f"pairs_{part}"):
            found = read(f"pairs_{part}", "images", "labels", "distances", "threshold", "class_names")
            yield f"pairs_{part}", pair_grid(**found, part=part)
    yield from _curves(read_metrics(run / "metrics.csv"))
    if curves := {part: read(f"roc_{part}", "fpr", "tpr") for part in PARTS if has(f"roc_{part}")}:
        yield "roc", roc_curves({part: (c["fpr"], c["tpr"], _area(**c)) for part, c in curves.items()})
    if spectra := {part: read(f"spectrum_{part}", "singular_values") for part in PARTS if has(f"spectrum_{part}")}:
        yield "spectrum", spectrum({part: found["singular_values"] for part, found in spectra.items()})
    for part in PARTS:
        if has(f"histogram_{part}"):
            found = read(f"histogram_{part}", "edges", "positive", "negative")
            yield f"similarities_{part}", similarity_histogram(**found, part=part)
        if not has(part):
            continue
        own = read(part, "labels", "class_names")
        classes = own["class_names"]
        names = {"class_names": classes, "part": part}
        if has(f"distances_{part}"):
            found = read(f"distances_{part}", "matrix")
            require_length(folder / f"distances_{part}.npz", found["matrix"], len(classes))
            yield f"distances_{part}", distance_matrix(**found, **names)
        if has(f"projection_{part}"):
            found = read(f"projection_{part}", "points", "explained_variance_ratio", *ELLIPSES)
            ellipses = {key: found[key] for key in ELLIPSES}
            require_length(folder / f"projection_{part}.npz", found["points"], len(own["labels"]))
            drawn = {"points": found["points"], "labels": own["labels"], "ellipses": ellipses, **names}
            drawn["explained"] = found["explained_variance_ratio"]
            yield f"projection_{part}", projection(**drawn)
            yield f"projection_normalised_{part}", projection(**drawn, normalised=True)
        if has(f"gallery_{part}"):
            keys = ("query_images", "query_labels", "neighbour_images", "neighbour_labels", "cosines")
            found = read(f"gallery_{part}", *keys)
            for key in ("query_labels", "neighbour_labels"):
                require_labels(folder / f"gallery_{part}.npz", found[key], len(classes))
            yield f"gallery_{part}", gallery(**found, **names)
        if has(f"hardest_{part}"):
            found = read(f"hardest_{part}", *TRIPLET)
            require_labels(folder / f"hardest_{part}.npz", found["labels"], len(classes))
            yield f"hardest_{part}", hardest_triplets(**found, **names)


def _curves(rows: list[dict[str, str]]) -> Iterator[tuple[str, Figure]]:
    columns = dict.fromkeys(column for row in rows for column in row)
    terms = [c.removeprefix("train/") for c in columns if c.startswith("train/")]
    if terms:
        yield "loss_curves", loss_curves(rows, terms)
    if any(c.startswith("val/") and f"train/{c.removeprefix('val/')}" not in columns for c in columns):
        yield "metric_curves", metric_curves(rows)


def _area(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """The area under the curve, by the trapezoidal rule."""
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())
