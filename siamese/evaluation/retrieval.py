"""Retrieval: every image is a query against all others, its own class is what should come first.

Of neighbours at the same distance those of other classes come first, so a tie is never a merit: an
embedding that collapsed to one point finds nothing. Queries whose class has no other image have
nothing to find and are left out.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from siamese.evaluation.blocks import Rows, rows, sweep
from siamese.evaluation.names import KNN, RECALL_AT, Undefined, Values, undefined

NAMES = [*(f"recall_at_{k}" for k in RECALL_AT), "map_at_r", "r_precision", "mrr", *(f"knn_{k}" for k in KNN)]


def retrieval(embeddings: np.ndarray, labels: np.ndarray) -> Values:
    """Measure ``embeddings`` [N, D] of classes ``labels`` [N]; see :meth:`Ranking.values`.

    Raises:
        ValueError: see :func:`siamese.evaluation.pairs.rows`.
    """
    prepared = rows(embeddings, labels)
    ranking = Ranking(prepared)
    sweep(prepared.unit, [ranking])
    return ranking.values()


class Ranking:
    """What the ranking of all other images by distance says of each query (a consumer of distances).

    Attributes:
        first: int64 [N], the rank of the first image of the query's class, from 1.
        average_precision, r_precision: float64 [N], among the R nearest, R the number of other images
            of the query's class.
        neighbours: int64 [N, K], the classes of the nearest 20 (of all, where there are fewer).
    """

    def __init__(self, prepared: Rows) -> None:
        count = len(prepared.labels)
        self.rows = prepared
        self.first = np.zeros(count, dtype=np.int64)
        self.average_precision = np.zeros(count)
        self.r_precision = np.zeros(count)
        self.neighbours = np.zeros((count, min(max(KNN), count - 1)), dtype=np.int64)

    def add(self, start: int, squared: Tensor) -> None:
        stop = start + len(squared)
        # Positive floats are in the order of their bits, so the last bit can say which class it is.
        keys = squared.numpy().view(np.int32) & ~1
        for here, columns in self.rows.segments(start, stop):
            keys[here, columns] |= 1
            self._rank(slice(start + here.start, start + here.stop), keys[here], columns)
        # With the column in the lower half no two are equal, and those that were go by their label.
        keyed = torch.from_numpy((keys.astype(np.int64) << 32) + np.arange(keys.shape[1]))
        nearest = keyed.topk(self.neighbours.shape[1], largest=False).indices
        self.neighbours[start:stop] = self.rows.labels[nearest.numpy()]

    def _rank(self, queries: slice, keys: np.ndarray, columns: slice) -> None:
        relevant = columns.stop - columns.start - 1
        if not relevant:
            return
        self.first[queries] = 1 + (keys < keys[:, columns].min(1, keepdims=True)).sum(1)
        nearest = np.partition(keys, relevant - 1)[:, :relevant]
        nearest.sort()
        hit = nearest & 1
        precision = hit.cumsum(1) / np.arange(1, relevant + 1)
        self.average_precision[queries] = (precision * hit).sum(1) / relevant
        self.r_precision[queries] = precision[:, -1]

    def values(self) -> Values:
        """Means over the queries.

        recall_at_k: the share with an image of their class among the k nearest (the hit rate, which
        metric learning calls recall). map_at_r, r_precision: MAP@R and R-precision (Musgrave et al.
        2020, A metric learning reality check, section 3.2). mrr: the mean of 1 / rank of the first
        image of the class. knn_k: the share whose class has the most votes among the k nearest;
        classes with as many votes go by their nearer images.
        """
        counts = self.rows.counts
        query = counts[self.rows.labels] > 1
        if not query.any():
            return undefined(NAMES, "no class has two images, so that there is nothing to retrieve")
        first, others = self.first[query], len(query) - 1
        values: Values = {f"recall_at_{k}": float((first <= k).mean()) for k in RECALL_AT}
        values["map_at_r"] = float(self.average_precision[query].mean())
        values["r_precision"] = float(self.r_precision[query].mean())
        values["mrr"] = float((1 / first).mean())
        values |= {f"knn_{k}": float(self._voted(k)[query].mean()) for k in KNN if k <= others}
        for name, k in [(f"recall_at_{k}", k) for k in RECALL_AT] + [(f"knn_{k}", k) for k in KNN]:
            if k > others:
                values[name] = Undefined(f"it needs {k + 1} images, found {len(query)}")
        return {name: values[name] for name in NAMES}

    def _voted(self, k: int) -> np.ndarray:
        """Whether the k nearest name the query's class, bool [N]."""
        votes = torch.zeros(len(self.neighbours), len(self.rows.counts), dtype=torch.float64)
        # Among as many votes, the class that has the nearest image where they first differ has more.
        weights = 1 + 0.5 ** torch.arange(2.0, k + 2, dtype=torch.float64)
        votes.scatter_add_(1, torch.from_numpy(self.neighbours[:, :k]), weights.expand(len(votes), k))
        return votes.argmax(1).numpy() == self.rows.labels
