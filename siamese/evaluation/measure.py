"""All that is measured on an embedding, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from siamese.evaluation import intervals
from siamese.evaluation.areas import areas
from siamese.evaluation.blocks import Block, Rows, every_pair, pairs_between, problem, rows
from siamese.evaluation.classes import of_classes, of_queries
from siamese.evaluation.curve import error_rates, thresholds
from siamese.evaluation.geometry import Classes, Confusion, most_confused, most_separated
from siamese.evaluation.intervals import Interval
from siamese.evaluation.names import (
    METRICS,
    NO_CLASSES,
    PAIRS_METRICS,
    ROLE_METRICS,
    TRIPLET_METRICS,
    Undefined,
    Values,
    undefined,
)
from siamese.evaluation.nearest import PassedOver, Search
from siamese.evaluation.pairs import PairCounts, count_pairs
from siamese.evaluation.probes import clustering, linear_probe
from siamese.evaluation.retrieval import Ranking, all_against_all, rank
from siamese.evaluation.spread import Spread, singular_values, spread
from siamese.evaluation.verification import Triplets, accuracy, best_threshold, mean_cosine, pair_distances


@dataclass(frozen=True)
class How:
    """What there is to choose of what is measured, and how.

    Attributes:
        coverage: the share of a class's points that its ellipse holds.
        threshold: the Euclidean distance below which a pair is called the same class; None takes the best for these
            triplets, which flatters the accuracy on them.
        chosen: thresholds of other images, ``threshold_at_*``, to measure these at.
        spread_images: see :func:`siamese.evaluation.spread.spread`.
        most_classes: classes up to which clusters, the linear probe and the matrix of distances are measured.
        most_images: images up to which all pairs of them are.
        resamples: of the bootstrap; 0 gives no intervals.
        over_classes: whether intervals are over classes, as where those could have been others, or over images.
        device: what retrieval and pairs are computed on.
        progress: is given a name and a number of rows, and gives what is told how many more are done.
    """

    coverage: float = 0.5
    threshold: float | None = None
    chosen: Mapping[str, float | Undefined] | None = None
    spread_images: int | None = None
    most_classes: int | None = None
    most_images: int | None = None
    resamples: int = 0
    over_classes: bool = False
    device: torch.device | str = "cpu"
    progress: Callable[[str, int], Callable[[int], None]] = lambda what, total: lambda done: None


@dataclass(frozen=True)
class Roles:
    """Who looks for whom.

    Attributes:
        queries, gallery: int64, positions of images; an image may be both, and is then not found by itself.
        groups: int64 [N], of each image; one of the query's class and group is passed over. Below 0 is no group.
    """

    queries: np.ndarray
    gallery: np.ndarray
    groups: np.ndarray | None = None


@dataclass(frozen=True)
class Measured:
    """What :func:`measure` found.

    Attributes:
        values: by name, those of :data:`METRICS`.
        arrays: by name, what figures are drawn from: ``roc`` (of the triplets), ``distances``, ``projection``,
            ``spectrum`` and ``histogram``; what is undefined has none.
        threshold: the Euclidean distance that ``accuracy`` was measured at.
        confused, separated: the pairs of classes nearest to each other, and farthest from.
        per_class: measures of each class, [C].
        queries: of each query, [Q]; see :func:`siamese.evaluation.classes.of_queries`.
        intervals: 95 % of the bootstrap, by name of a value.
        counts: of queries, of those without a match, of gallery images and of those without a class; empty where every
            image looks among all others.
    """

    values: Values
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    threshold: float | None = None
    confused: list[Confusion] = field(default_factory=list)
    separated: list[Confusion] = field(default_factory=list)
    per_class: dict[str, np.ndarray] = field(default_factory=dict)
    queries: dict[str, np.ndarray] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def measure(
    embeddings: np.ndarray,
    labels: np.ndarray,
    triplets: np.ndarray,
    classes: int,
    how: How = How(),
    roles: Roles | None = None,
    points: np.ndarray | None = None,
) -> Measured:
    """Measure ``embeddings`` [N, D] of ``classes`` classes ``labels`` [N].

    Labels below 0 are of images without a class. Where all are, what needs classes is undefined; where some are, they
    are distractors: wrong for every query, and left out where classes are described.

    Args:
        triplets: positions [T, 3] of anchor, positive and negative.
        roles: who looks for whom; None is everyone for all others.
        points: positions of the images that distances between classes, the plane and its areas are of; None is all.
    """
    if reason := problem(embeddings, labels):
        return Measured(undefined([*METRICS, *(ROLE_METRICS if roles else ())], reason))
    if (labels < 0).all():
        return _without_classes(embeddings, labels, how)
    prepared = rows(embeddings, labels)
    search = search_of(prepared, labels, roles)
    device = torch.device(how.device)
    advance = how.progress("ranking", len(search.queries))
    ranking = rank(search, whole=roles is not None, device=device, advance=advance)
    found = of_triplets(embeddings, labels, triplets, how)
    counts, spreading = _of_pairs(prepared, search, roles is not None, how, ranking)
    values = found.values | ranking.values()
    values |= too_many_images(how, prepared) if counts is None else counts.values()
    if spreading is None:
        values |= spread(embeddings, labels, how.spread_images, how.most_images)
        spectrum = singular_values(prepared.unit.numpy())
    else:
        values |= spreading.values()
        spectrum = spreading.singular_values
    values["cos_mean"] = Undefined("it needs 2 images, found 1")
    if len(embeddings) > 1:
        values["cos_mean"] = mean_cosine(prepared.unit)
    own = labels >= 0
    labelled = prepared if own.all() else rows(embeddings[own], labels[own])
    values["linear_probe"] = linear_probe(labelled, how.most_classes)
    values |= clustering(labelled, how.most_classes)
    of_points = described_by(labels, points)
    drawn, drawn_labels = embeddings[of_points], labels[of_points]
    described = Classes(drawn, drawn_labels, classes)
    values |= described.values()
    of_areas, each, plane = areas(drawn, drawn_labels, classes, how.coverage)
    values |= of_areas
    confused, separated = most_confused(described), most_separated(described)
    arrays = found.arrays | {"distances": _distances(described, confused, how.most_classes)}
    arrays["spectrum"] = {"singular_values": spectrum}
    arrays |= {"projection": plane | {"positions": of_points}} if plane else {}
    arrays |= {} if counts is None else {"histogram": counts.histogram()}
    places = prepared.order[search.queries]
    units = labels[places] if how.over_classes else places
    asked = ranking.asked
    per_query = {name: of[asked] for name, of in ranking.of_queries().items()}
    between = intervals.of_means(per_query, units[asked], how.resamples)
    between = {name: interval for name, interval in between.items() if not isinstance(values[name], Undefined)}
    ordered = [name for name in (*METRICS, *values) if name in values]
    return replace(
        found,
        values={name: values[name] for name in dict.fromkeys(ordered)},
        arrays=arrays,
        confused=confused,
        separated=separated,
        per_class=of_classes(ranking, labels, described) | each,
        queries=of_queries(ranking),
        intervals=found.intervals | between,
        counts={} if roles is None else _roles_counted(ranking, labels, roles),
    )


def _without_classes(embeddings: np.ndarray, labels: np.ndarray, how: How) -> Measured:
    """What there is to measure on images that have no classes."""
    values = undefined(METRICS, NO_CLASSES) | spread(embeddings, labels, how.spread_images, how.most_images)
    values["alignment"] = Undefined(NO_CLASSES)
    unit = rows(embeddings, labels).unit
    values["cos_mean"] = mean_cosine(unit) if len(unit) > 1 else Undefined("it needs 2 images, found 1")
    return Measured(values, {"spectrum": {"singular_values": singular_values(unit.numpy())}})


def search_of(prepared: Rows, labels: np.ndarray, roles: Roles | None) -> Search:
    """Who looks for whom among the sorted rows; images without a class look for nothing."""
    place = np.empty_like(prepared.order)
    place[prepared.order] = np.arange(len(place))
    if roles is None:
        everything = all_against_all(prepared)
        return replace(everything, queries=np.sort(place[labels >= 0]))
    groups = None if roles.groups is None else roles.groups[prepared.order]
    queries = roles.queries[labels[roles.queries] >= 0]
    return Search(prepared, np.sort(place[queries]), np.sort(place[roles.gallery]), groups)


def described_by(labels: np.ndarray, points: np.ndarray | None) -> np.ndarray:
    """The positions of the images that classes are described by."""
    return np.flatnonzero(labels >= 0) if points is None else points[labels[points] >= 0]


def of_triplets(embeddings: np.ndarray, labels: np.ndarray, triplets: np.ndarray, how: How) -> Measured:
    """What is measured on the fixed triplets alone."""
    names = [*TRIPLET_METRICS]
    if not len(triplets):
        return Measured(undefined(names, "no triplet can be formed of these images"), threshold=how.threshold)
    pairs = Triplets.of(embeddings, triplets)
    curve = pairs.curve
    values: Values = {**pairs.values(), **error_rates(curve), **thresholds(curve), **pairs.in_folds()}
    positive, negative = pair_distances(embeddings, triplets)
    used = best_threshold(positive, negative) if how.threshold is None else how.threshold
    values["accuracy"] = accuracy(positive, negative, used)
    values |= {} if how.chosen is None else pairs.at_thresholds(how.chosen)
    anchors = triplets[:, 0]
    between = intervals.of_triplets(pairs, labels[anchors] if how.over_classes else anchors, how.resamples)
    roc = {"fpr": curve.fpr, "tpr": curve.tpr, "thresholds": curve.thresholds}
    return Measured(values, {"roc": roc}, used, intervals=between)


def _of_pairs(
    prepared: Rows, search: Search, among: bool, how: How, ranking: Ranking
) -> tuple[PairCounts | None, Spread | None]:
    """Count all pairs, where there are not too many, and see how the images are spread, unless some of them are to
    stand for all."""
    images = len(prepared.order)
    if how.spread_images:
        return counted(prepared, search, among, how) if few(how, images) else None, None
    whole = not among and len(search.queries) == images
    nearest = ranking.nearest if whole else rank(all_against_all(prepared), device=how.device).nearest
    spreading = Spread(prepared, nearest, few(how, images))
    if not few(how, images):
        return None, spreading
    if among:
        for block in every_pair(prepared.unit.to(how.device), advance=how.progress("all pairs", images)):
            spreading.add(block)
    return counted(prepared, search, among, how, None if among else spreading), spreading


def few(how: How, images: int) -> bool:
    """Whether all pairs of so many ``images`` are measured."""
    return how.most_images is None or images <= how.most_images


def counted(prepared: Rows, search: Search, among: bool, how: How, spreading: Spread | None = None) -> PairCounts:
    """The pairs of all images, or those ``among`` queries and gallery where there are such; ``spreading`` looks on."""
    unit = prepared.unit.to(how.device)
    if among:
        queries, gallery = (torch.from_numpy(of).to(unit.device) for of in (search.queries, search.gallery))
        passed = PassedOver(search, how.device)
        return count_pairs(prepared, lambda: pairs_between(unit, queries, gallery, passed), every=False)
    onlookers = iter([] if spreading is None else [spreading])

    def blocks() -> Iterator[Block]:
        onlooker = next(onlookers, None)  # the first time alone
        for block in every_pair(unit, advance=how.progress("all pairs", len(unit))):
            if onlooker is not None:
                onlooker.add(block)
            yield block

    return count_pairs(prepared, blocks)


def too_many_images(how: How, prepared: Rows) -> Values:
    reason = (
        f"all pairs are measured up to evaluation.most_images={how.most_images} images, found {len(prepared.order):,}"
    )
    return undefined(PAIRS_METRICS, reason)


def _distances(classes: Classes, confused: list[Confusion], most: int | None) -> dict[str, np.ndarray]:
    """The matrix of distances between classes; of too many, those nearest to each."""
    pairs = np.array([pair[:2] for pair in confused], dtype=np.int64).reshape(-1, 2)
    if most is None or len(classes.counts) <= most:
        return {"matrix": classes.matrix(), "confused": pairs}
    nearest, distances = classes.nearest()
    return {"nearest": nearest, "distances": distances, "within": classes.within, "confused": pairs}


def _roles_counted(ranking: Ranking, labels: np.ndarray, roles: Roles) -> dict[str, int]:
    return {
        "queries": len(roles.queries),
        "queries_without_match": len(roles.queries) - int(ranking.asked.sum()),
        "gallery": len(roles.gallery),
        "distractors": int((labels[roles.gallery] < 0).sum()),
    }
