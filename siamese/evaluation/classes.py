"""Where an embedding fails: each class, and each query."""

from __future__ import annotations

import numpy as np

from siamese.evaluation.geometry import Classes
from siamese.evaluation.retrieval import Ranking


def of_queries(ranking: Ranking) -> dict[str, np.ndarray]:
    """Of each query that has something to find, as arrays [Q] in the order of their positions in what was measured:

    query: its position. first: the rank of the first image of its class. nearest, right: the positions of the nearest
    image, and of that first one. cosine_nearest, cosine_right: their cosines with the query.
    """
    order, unit = ranking.search.rows.order, ranking.search.rows.unit.numpy()
    asked = np.flatnonzero(ranking.asked)
    queries, nearest, right = ranking.search.queries[asked], ranking.nearest[asked], ranking.right[asked]
    by_position = np.argsort(order[queries], kind="stable")
    queries, nearest, right = queries[by_position], nearest[by_position], right[by_position]
    return {
        "query": order[queries],
        "first": ranking.first[asked][by_position],
        "nearest": order[nearest],
        "right": order[right],
        "cosine_nearest": np.einsum("nd,nd->n", unit[queries], unit[nearest]),
        "cosine_right": np.einsum("nd,nd->n", unit[queries], unit[right]),
    }


def of_classes(ranking: Ranking, labels: np.ndarray, described: Classes) -> dict[str, np.ndarray]:
    """Of each of C classes, as arrays [C]:

    images: how many there are. recall_at_1, map_at_r: the means over its queries; NaN without any. intra_distance: the
    mean cosine distance of two of its images. nearest_class, nearest_class_distance: the class whose images are nearest
    on average (-1 where there is none), and how near. taken_for, taken_for_share: the class that the nearest image of
    its queries is of most often where it is wrong (-1 where it never is), and of which share of its queries.
    """
    classes, asked = len(described.counts), ranking.asked
    order = ranking.search.rows.order
    own, nearest = labels[order[ranking.search.queries]][asked], labels[order[ranking.nearest]][asked]
    count = np.bincount(own, minlength=classes)
    found: dict[str, np.ndarray] = {"images": np.bincount(labels[labels >= 0], minlength=classes)}
    for name, of in (("recall_at_1", ranking.first == 1), ("map_at_r", ranking.precision_at_r)):
        sums = np.bincount(own, of[asked].astype(float), classes)
        found[name] = np.divide(sums, count, out=np.full(classes, np.nan), where=count > 0)
    found["intra_distance"] = described.within
    near, distances = described.nearest(1)
    found["nearest_class"] = near[:, 0] if near.shape[1] else np.full(classes, -1)
    found["nearest_class_distance"] = distances[:, 0] if near.shape[1] else np.full(classes, np.nan)
    wrong = (ranking.first[asked] != 1) & (nearest >= 0)
    pairs, times = np.unique(np.stack([own[wrong], nearest[wrong]]), axis=1, return_counts=True)
    found["taken_for"], share = np.full(classes, -1), np.zeros(classes)
    for place in np.argsort(times, kind="stable"):
        one, other = pairs[:, place]
        found["taken_for"][one], share[one] = other, times[place] / count[one]
    found["taken_for_share"] = np.where(count > 0, share, np.nan)
    return found
