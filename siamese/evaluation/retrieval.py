"""Retrieval: every image is a query against all others, its own class is what should come first.

Of neighbours at the same distance those of other classes come first, so a tie is never a merit: an embedding that
collapsed to one point finds nothing. Queries without another image of their class to find are left out. Where there are
queries and a gallery, the former look in the latter alone; images of no class that are in it are always wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siamese.evaluation.blocks import BLOCK_ENTRIES, Rows, rows
from siamese.evaluation.names import KNN, RECALL_AT, RETRIEVAL_METRICS, ROLE_METRICS, Undefined, Values, undefined
from siamese.evaluation.nearest import Search, ranked

NOTHING_TO_FIND = "no class has two images, so that there is nothing to retrieve"
NO_MATCH = "no query has an image of its class in the gallery"
AT_ONCE_ENTRIES = 1 << 22  # distances in float32, at least
AT_ONCE = 64  # queries, at least: with fewer the products wait for memory, for each reads the whole gallery


def retrieval(embeddings: np.ndarray, labels: np.ndarray) -> Values:
    """Measure ``embeddings`` [N, D] of classes ``labels`` [N], all against all; see :meth:`Ranking.values`.

    Raises:
        ValueError: see :func:`siamese.evaluation.blocks.rows`.
    """
    return rank(all_against_all(rows(embeddings, labels))).values()


def all_against_all(prepared: Rows) -> Search:
    """Every image of ``prepared`` that has a class looked for among all others."""
    everything = np.arange(len(prepared.labels))
    return Search(prepared, everything, everything)


@dataclass(frozen=True)
class Ranking:
    """What the ranking of the gallery by distance says of each of Q queries.

    Attributes:
        search: which they are.
        whole: whether ``average_precision`` is over the whole ranking, as re-identification has it, too.
        relevant: int64 [Q], R: the number of gallery images that a query should find.
        first: int64 [Q], the rank of the first of them, from 1; 0 where there is none.
        right: int64 [Q], the row of that image; -1 where there is none.
        nearest: int64 [Q], the row of the nearest gallery image; -1 where there is none.
        precision_at_r: float64 [Q], average precision among the R nearest (MAP@R is its mean).
        r_precision: float64 [Q], the share of them that is right.
        average_precision: float64 [Q], over the whole ranking; empty unless ``whole``.
        votes: bool [Q, 3], whether the 1, 5 and 20 nearest name the query's class.
    """

    search: Search
    whole: bool
    relevant: np.ndarray
    first: np.ndarray
    right: np.ndarray
    nearest: np.ndarray
    precision_at_r: np.ndarray
    r_precision: np.ndarray
    average_precision: np.ndarray
    votes: np.ndarray

    @property
    def asked(self) -> np.ndarray:
        """Which queries have something to find, bool [Q]."""
        return self.relevant > 0

    def of_queries(self) -> dict[str, np.ndarray]:
        """Each measure a query, float64 [Q]; :meth:`values` are the means over those that have something to find."""
        first = np.where(self.first > 0, self.first, np.inf)
        found = {f"recall_at_{k}": (first <= k).astype(float) for k in RECALL_AT}
        found |= {"map_at_r": self.precision_at_r, "r_precision": self.r_precision, "mrr": 1 / first}
        found |= {f"knn_{k}": self.votes[:, i].astype(float) for i, k in enumerate(KNN)}
        return found | ({"mean_average_precision": self.average_precision} if self.whole else {})

    def values(self) -> Values:
        """Means over the queries that have something to find.

        recall_at_k: the share with an image of their class among the k nearest (the hit rate, which metric learning
        calls recall and re-identification CMC at rank k; at 1, precision@1). map_at_r, r_precision: MAP@R and
        R-precision (Musgrave et al. 2020, A metric learning reality check, section 3.2). mrr: the mean of 1 / rank of
        the first image of the class. knn_k: the share whose class has the most votes among the k nearest; classes with
        as many votes go by their nearer images. mean_average_precision: of the whole ranking (Zheng et al. 2015,
        Scalable person re-identification, section 4), where there are queries and a gallery.
        """
        names = [*RETRIEVAL_METRICS, *(ROLE_METRICS if self.whole else ())]
        if not self.asked.any():
            return undefined(names, NO_MATCH if self.whole else NOTHING_TO_FIND)
        values: Values = {name: float(of[self.asked].mean()) for name, of in self.of_queries().items()}
        gallery = len(self.search.gallery)
        for name, k in [(f"recall_at_{k}", k) for k in RECALL_AT] + [(f"knn_{k}", k) for k in KNN]:
            if self.whole and k > gallery:
                values[name] = Undefined(f"it needs {k} images in the gallery, found {gallery}")
            elif not self.whole and k >= gallery:
                values[name] = Undefined(f"it needs {k + 1} images, found {gallery}")
        return {name: values[name] for name in names}


def rank(
    search: Search,
    *,
    whole: bool = False,
    device: torch.device | str = "cpu",
    advance: Callable[[int], None] = lambda done: None,
) -> Ranking:
    """Rank the gallery of ``search`` for each query; ``device`` and ``advance`` as :func:`.nearest.ranked` has them."""
    relevant, queries = search.relevant(), len(search.queries)
    first, right, nearest = (np.zeros(queries, dtype=np.int64) for _ in range(3))
    precision, r_precision, whole_precision = np.zeros(queries), np.zeros(queries), np.zeros(queries if whole else 0)
    votes = np.zeros((queries, len(KNN)), dtype=bool)
    found = Ranking(search, whole, relevant, first, right, nearest, precision, r_precision, whole_precision, votes)
    labels = torch.from_numpy(search.rows.labels)
    of_queries, of_gallery = labels[search.queries], labels[search.gallery]
    wanted = torch.from_numpy(relevant)

    def count(some: slice) -> int:
        return len(search.gallery) if whole else max(int(relevant[some].max()), *KNN)

    entries = BLOCK_ENTRIES if whole else max(AT_ONCE_ENTRIES, AT_ONCE * len(search.gallery))
    for block in ranked(search, count, entries, device, advance):
        some = block.queries
        found.first[some] = block.first.cpu().numpy()
        places = np.stack([torch.where(block.there[:, 0], block.columns[:, 0], -1).cpu(), block.right.cpu()])
        found.nearest[some], found.right[some] = np.where(places >= 0, search.gallery[places], -1)
        need = wanted[some].to(block.hits.device)
        hits = block.hits & (torch.arange(block.hits.shape[1], device=need.device) < need[:, None])
        found.precision_at_r[some] = _average_precision(hits, need)
        found.r_precision[some] = (hits.sum(1).double() / need.clamp(min=1)).cpu().numpy()
        if whole:
            found.average_precision[some] = _average_precision(block.hits, need)
        near = slice(0, max(KNN))
        codes = of_gallery.to(need.device)[block.columns[:, near]]
        found.votes[some] = _votes(codes, block.there[:, near], of_queries[some].to(need.device)).cpu().numpy()
    return found


def _average_precision(hits: Tensor, relevant: Tensor) -> np.ndarray:
    """The sum of the precisions at each hit, bool [b, K], over the number of ``relevant`` images, float64 [b]."""
    places = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
    return ((hits.cumsum(1) / places * hits).sum(1) / relevant.clamp(min=1)).cpu().numpy()


def _votes(codes: Tensor, there: Tensor, own: Tensor) -> Tensor:
    """Whether the k nearest, of classes ``codes`` [b, 20], name the query's ``own``, for each k of KNN: bool [b, 3]."""
    same = (codes[:, :, None] == codes[:, None, :]) & there[:, :, None] & there[:, None, :]
    # Among as many votes, the class that has the nearest image where they first differ has more.
    weights = 1 + 0.5 ** torch.arange(2.0, codes.shape[1] + 2, dtype=torch.float64, device=codes.device)
    found = []
    for k in KNN:
        votes = (same[:, :k, :k] * weights[:k]).sum(2)
        found.append((codes.gather(1, votes.argmax(1, keepdim=True))[:, 0] == own) & there[:, 0])
    return torch.stack(found, dim=1)
