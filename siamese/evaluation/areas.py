"""Areas of the classes' ellipses in the plane of the first two principal components."""

from __future__ import annotations

import numpy as np

from siamese.evaluation import projection
from siamese.evaluation.names import AREA_METRICS, AREAS, Undefined, Values, undefined


def areas(
    embeddings: np.ndarray, labels: np.ndarray, classes: int, coverage: float
) -> tuple[Values, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Measure ``embeddings`` [N, D] of ``classes`` classes ``labels`` [N].

    ellipse_area: π/4 of width times height. normalised_area: the same with both coordinates scaled to [0, 1].
    legacy_area: four times that, π times width times height of full axes, to be set beside areas that were printed so,
    and for nothing else.

    Returns:
        The means and medians over the classes; the areas of each class, float64 [C], NaN where there is none; and what
        a figure is drawn from, nothing where there is no plane.
    """
    none = {name: np.full(classes, np.nan) for name in AREAS}
    try:
        plane = projection.fit_projection(embeddings)
    except ValueError as error:
        return undefined(AREA_METRICS, str(error)), none, {}
    points = plane(embeddings)
    found = projection.ellipses(points, labels, classes, coverage)
    normalised = np.array([np.nan if a is None else a for a in projection.normalised_areas(found, points)])
    own = np.array([np.nan if one is None else one.area for one in found])
    each = {"ellipse_area": own, "normalised_area": normalised, "legacy_area": 4 * normalised}
    arrays = {
        "points": points,
        "mean": plane.mean,
        "components": plane.components,
        "explained_variance_ratio": plane.explained_variance_ratio,
        "coverage": np.array(coverage),
        "centres": np.array([[np.nan] * 2 if one is None else one.centre for one in found]).reshape(-1, 2),
        "widths": np.array([np.nan if one is None else one.width for one in found]),
        "heights": np.array([np.nan if one is None else one.height for one in found]),
        "angles": np.array([np.nan if one is None else one.angle for one in found]),
        **{f"{name}s": of for name, of in each.items()},
    }
    values: Values = {}
    for name, of_classes in each.items():
        there = of_classes[np.isfinite(of_classes)]
        reason = f"no class has the {projection.LEAST} images that an ellipse needs"
        if np.isfinite(own).any() and not len(there):
            reason = "all images lie on one line"
        for of, how in (("mean", np.mean), ("median", np.median)):
            values[f"{name}_{of}"] = float(how(there)) if len(there) else Undefined(reason)
    return values, each, arrays
