"""All that is measured on an embedding, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from siamese.evaluation import projection
from siamese.evaluation.blocks import Rows, problem, rows, sweep
from siamese.evaluation.geometry import Confusion, distance_matrix, geometry, most_confused
from siamese.evaluation.names import AREAS, METRICS, NO_CLASSES, Undefined, Values, undefined
from siamese.evaluation.probes import clustering, linear_probe
from siamese.evaluation.retrieval import Ranking
from siamese.evaluation.spread import Spread, singular_values, spread
from siamese.evaluation.verification import (
    PairCounts,
    accuracy,
    best_threshold,
    error_rates,
    mean_cosine,
    pair_distances,
    roc,
    verification,
)


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found.

    Attributes:
        values: by name, those of :data:`METRICS`.
        arrays: by name, what figures are drawn from: ``roc`` (of the triplets), ``distances``,
            ``projection``, ``spectrum`` and ``histogram``; what is undefined has none.
        threshold: the Euclidean distance that ``accuracy`` was measured at.
        confused: the pairs of classes nearest to each other.
        per_class: by name, [C] each, in the order of the class names; NaN where a class has no value.
    """

    values: Values
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    threshold: float | None = None
    confused: list[Confusion] = field(default_factory=list)
    per_class: dict[str, np.ndarray] = field(default_factory=dict)


def measure(
    embeddings: np.ndarray,
    labels: np.ndarray,
    triplets: np.ndarray,
    class_names: Sequence[str],
    *,
    coverage: float = 0.5,
    threshold: float | None = None,
    spread_images: int | None = None,
) -> Measured:
    """Measure ``embeddings`` [N, D] of classes ``labels`` [N], whose names are ``class_names`` [C].

    Where all labels are below 0 the images have no classes, and what needs classes is undefined.

    Args:
        triplets: positions [T, 3] of anchor, positive and negative.
        coverage: the share of a class's points that its ellipse holds.
        threshold: the Euclidean distance below which a pair is called the same class; None takes the
            best for these triplets, which flatters the accuracy on them.
        spread_images: see :func:`siamese.evaluation.spread.spread`.
    """
    if reason := problem(embeddings, labels):
        return Measured(undefined(METRICS, reason))
    if (labels < 0).all():
        return _without_classes(embeddings, labels, spread_images)
    arrays: dict[str, dict[str, np.ndarray]] = {}
    prepared = rows(embeddings, labels)
    ranking, counts, spreading = Ranking(prepared), PairCounts(prepared), Spread(prepared)
    sweep(prepared.unit, [ranking, counts] if spread_images else [ranking, counts, spreading])
    values, used = _of_triplets(embeddings, triplets, threshold, arrays)
    values["cos_mean"] = Undefined("it needs 2 images, found 1")
    if len(embeddings) > 1:
        values["cos_mean"] = mean_cosine(prepared.unit)
    values |= counts.values() | ranking.values() | _of_learners(prepared)
    values |= spread(embeddings, labels, spread_images) if spread_images else spreading.values()
    matrix = distance_matrix(embeddings, labels, len(class_names))
    areas, per_class = _areas(embeddings, labels, len(class_names), coverage, arrays)
    values |= geometry(matrix) | areas
    confused = most_confused(matrix)
    pairs = np.array([pair[:2] for pair in confused], dtype=np.int64).reshape(-1, 2)
    arrays["distances"] = {"matrix": matrix, "confused": pairs}
    arrays["spectrum"] = {"singular_values": singular_values(prepared.unit.numpy())}
    arrays["histogram"] = counts.histogram()
    return Measured({name: values[name] for name in METRICS}, arrays, used, confused, per_class)


def _without_classes(embeddings: np.ndarray, labels: np.ndarray, spread_images: int | None) -> Measured:
    """What there is to measure on images that have no classes."""
    values = undefined(METRICS, NO_CLASSES) | spread(embeddings, labels, spread_images)
    values["alignment"] = Undefined(NO_CLASSES)
    unit = rows(embeddings, labels).unit
    values["cos_mean"] = mean_cosine(unit) if len(unit) > 1 else Undefined("it needs 2 images, found 1")
    return Measured(values, {"spectrum": {"singular_values": singular_values(unit.numpy())}})


def _of_triplets(
    embeddings: np.ndarray, triplets: np.ndarray, threshold: float | None, arrays: dict[str, dict[str, np.ndarray]]
) -> tuple[Values, float | None]:
    names = ["auc", "good_triplets", "eer", "accuracy"]
    names += [name for name in METRICS if name.startswith(("tar_", "cos_", "euclid_"))]
    if not len(triplets):
        return undefined(names, "no triplet can be formed of these images"), threshold
    z, places = torch.from_numpy(embeddings), torch.from_numpy(triplets)
    fpr, tpr = (rate.double().numpy() for rate in roc(z, places))
    arrays["roc"] = {"fpr": fpr, "tpr": tpr}
    values: Values = {**verification(z, places), **error_rates(fpr, tpr, len(triplets))}
    positive, negative = pair_distances(embeddings, triplets)
    used = best_threshold(positive, negative) if threshold is None else threshold
    values["accuracy"] = accuracy(positive, negative, used)
    return values, used


def _of_learners(prepared: Rows) -> Values:
    return {"linear_probe": linear_probe(prepared), **clustering(prepared)}


def _areas(
    embeddings: np.ndarray,
    labels: np.ndarray,
    classes: int,
    coverage: float,
    arrays: dict[str, dict[str, np.ndarray]],
) -> tuple[Values, dict[str, np.ndarray]]:
    """Areas of the classes' ellipses in the plane of the first two principal components: their mean and median, and
    each [C], NaN where a class has no ellipse.

    ellipse_area: π/4 of width times height. normalised_area: the same with both coordinates scaled to
    [0, 1]. legacy_area: four times that, π times width times height of full axes, to be set beside
    areas that were printed so, and for nothing else.
    """
    try:
        plane = projection.fit_projection(embeddings)
    except ValueError as error:
        return undefined([f"{area}_{of}" for area in AREAS for of in ("mean", "median")], str(error)), {}
    points = plane(embeddings)
    found = projection.ellipses(points, labels, classes, coverage)
    normalised = projection.normalised_areas(found, points)
    areas = {
        "ellipse_area": _numbers([None if one is None else one.area for one in found]),
        "normalised_area": _numbers(normalised),
        "legacy_area": _numbers([None if area is None else 4 * area for area in normalised]),
    }
    arrays["projection"] = {
        "points": points,
        "mean": plane.mean,
        "components": plane.components,
        "explained_variance_ratio": plane.explained_variance_ratio,
        "centres": np.array([[np.nan] * 2 if one is None else one.centre for one in found]),
        "widths": np.array([np.nan if one is None else one.width for one in found]),
        "heights": np.array([np.nan if one is None else one.height for one in found]),
        "angles": np.array([np.nan if one is None else one.angle for one in found]),
        **{f"{name}s": of_classes for name, of_classes in areas.items()},
    }
    values: Values = {}
    for name, of_classes in areas.items():
        there = of_classes[np.isfinite(of_classes)]
        reason = f"no class has the {projection.LEAST} images that an ellipse needs"
        if any(one is not None for one in found) and not len(there):
            reason = "all images lie on one line"
        values[f"{name}_mean"] = float(there.mean()) if len(there) else Undefined(reason)
        values[f"{name}_median"] = float(np.median(there)) if len(there) else Undefined(reason)
    return values, areas


def _numbers(found: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if one is None else one for one in found], dtype=np.float64)
