"""The names of all that is measured on embeddings, and what stands where a measure has no value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

RECALL_AT = (1, 5, 10)
KNN = (1, 5, 20)
AREAS = ("ellipse_area", "normalised_area", "legacy_area")  # each of every class, and over the classes
FAR = ("1e-1", "1e-2", "1e-3")

# Each name with whether more or less of it is better, or None where that is a matter of opinion, by what it is
# measured on. ``pairs_*`` are over all pairs of images, the same names without it over the pairs of the fixed triplets.
TRIPLET_METRICS: dict[str, str | None] = {
    "auc": "max",
    "eer": "min",
    **{f"tar_at_far_{far}": "max" for far in FAR},
    "accuracy": "max",
    "folds_accuracy": "max",
    "folds_accuracy_error": None,
    "threshold_at_eer": None,
    **{f"threshold_at_far_{far}": None for far in FAR},
    "good_triplets": "max",
    "cos_positive": "max",
    "cos_negative": "min",
    "euclid_positive": "min",
    "euclid_negative": "max",
}
PAIRS_METRICS: dict[str, str | None] = {
    "pairs_auc": "max",
    "pairs_eer": "min",
    **{f"pairs_tar_at_far_{far}": "max" for far in FAR},
    "pairs_cos_positive": "max",
    "pairs_cos_negative": "min",
    "pairs_euclid_positive": "min",
    "pairs_euclid_negative": "max",
}
RETRIEVAL_METRICS: dict[str, str | None] = {
    **{f"recall_at_{k}": "max" for k in RECALL_AT},
    "map_at_r": "max",
    "r_precision": "max",
    "mrr": "max",
    **{f"knn_{k}": "max" for k in KNN},
}
PROBE_METRICS: dict[str, str | None] = {"linear_probe": "max", "nmi": "max", "ami": "max"}
GEOMETRY_METRICS: dict[str, str | None] = {
    "intra_distance": "min",
    "intra_distance_std": None,
    "inter_distance": "max",
    "inter_distance_std": None,
    "separation": "max",
    "separation_std": None,
}
SPREAD_METRICS: dict[str, str | None] = {
    "alignment": "min",
    "uniformity": "min",
    "effective_rank": "max",
    "participation_ratio": "max",
    "nn_distance_q05": "max",
    "nn_distance_median": "max",
    "nn_distance_q95": "max",
    "entropy": "max",
}
AREA_METRICS: dict[str, str | None] = {f"{area}_{of}": None for area in AREAS for of in ("mean", "median")}
METRICS: dict[str, str | None] = {
    **TRIPLET_METRICS,
    "cos_mean": "min",
    **PAIRS_METRICS,
    **RETRIEVAL_METRICS,
    **PROBE_METRICS,
    **GEOMETRY_METRICS,
    **SPREAD_METRICS,
    **AREA_METRICS,
}
# Where there are queries and a gallery, besides.
ROLE_METRICS: dict[str, str | None] = {"mean_average_precision": "max"}
# At the thresholds that were chosen on another part.
THRESHOLDS = ("eer", *(f"far_{far}" for far in FAR))
THRESHOLD_METRICS: dict[str, str | None] = {
    **{f"far_at_threshold_{name}": "min" for name in THRESHOLDS},
    **{f"tar_at_threshold_{name}": "max" for name in THRESHOLDS},
}
# Where the loss has weights for each class, besides.
CLASS_METRICS: dict[str, str | None] = {"class_accuracy": "max"}
# Over pairs of consecutive images, by Euclidean distance, in runs that train on pairs.
PAIR_METRICS: dict[str, str | None] = {"pair_accuracy": "max", "pair_auc": "max"}
# Where images have no classes: how well an image is found by another view of it.
VIEW_RECALL_AT = (1, 5)
VIEW_METRICS: dict[str, str | None] = {**{f"view_recall_at_{k}": "max" for k in VIEW_RECALL_AT}, "view_mrr": "max"}
NO_CLASSES = "the images have no classes"


def direction(name: str) -> str | None:
    """``max`` or ``min``, whichever is better for ``name`` (without prefix), or None for neither; a name
    that is of neither table is a loss. ``ellipse_area/cat`` goes the way of ``ellipse_area_mean``."""
    measure, slash, _ = name.partition("/")
    return (METRICS | PAIR_METRICS | VIEW_METRICS | ROLE_METRICS | THRESHOLD_METRICS | CLASS_METRICS).get(
        f"{measure}_mean" if slash else name, "min"
    )


@dataclass(frozen=True)
class Undefined:
    """In the place of a value that the embeddings at hand do not have, with the reason in words."""

    reason: str


Values = dict[str, float | Undefined]


def undefined(names: Iterable[str], reason: str) -> Values:
    """All of ``names`` undefined for one ``reason``."""
    return dict.fromkeys(names, Undefined(reason))


def defined(values: Mapping[str, float | Undefined]) -> dict[str, float]:
    """Those of ``values`` that are numbers."""
    return {name: value for name, value in values.items() if not isinstance(value, Undefined)}
