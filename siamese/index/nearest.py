"""The nearest of many vectors: all of them looked at, or fewer, by faiss."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from siamese.errors import ConfigError, RunError

KINDS = ("flat", "hnsw", "ivfpq")
SLACK = 32  # candidates beyond those asked for, whose order float32 may not know
ERROR = 1e-5  # by which a squared distance of unit vectors in float32 may be off
FEW = 20_000  # vectors that are all looked at rather than through an approximate index
NEIGHBOURS, BREADTH = 32, 128  # of a graph (HNSW): links a vector, and candidates that are kept
CODES = 256  # of a product quantiser, 8 bits; it needs as many vectors to learn from
WIDTH = 20  # times the candidates wanted that codes give, of which the exact distances are then looked at


def faiss() -> ModuleType:
    """The library.

    Raises:
        ConfigError: when it is not installed.
    """
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which processors it is not built for
    try:
        return importlib.import_module("faiss")
    except ImportError:
        raise ConfigError(
            "faiss: not installed, and an index is searched with it; pip install 'siamese[index]'"
        ) from None


class Approximate:
    """An index of the first vectors of some, which looks at a part of them only.

    Attributes:
        rows: how many vectors are in it.
    """

    def __init__(self, kind: str, structure: object) -> None:
        self.kind, self.structure = kind, structure

    @property
    def rows(self) -> int:
        return int(self.structure.ntotal)  # type: ignore[attr-defined]

    @classmethod
    def build(cls, kind: str, vectors: Sequence[np.ndarray]) -> Approximate:
        """Of ``vectors``, float32 [n, D] each. One thread builds it, since the order of insertion decides what a graph
        becomes.

        Raises:
            ConfigError: for ``ivfpq`` of too few vectors.
        """
        library, count, dimensions = faiss(), sum(map(len, vectors)), vectors[0].shape[1]
        if kind == "hnsw":
            structure = library.IndexHNSWFlat(dimensions, NEIGHBOURS)
            structure.hnsw.efConstruction = BREADTH
        else:
            if count < CODES:
                raise ConfigError(f"--kind ivfpq: learns its codes from at least {CODES} images, found {count:,}")
            lists = max(1, min(int(4 * count**0.5), count // 39))  # 39 vectors a list, as faiss asks for
            parts = max(part for part in range(1, dimensions // 2 + 1) if dimensions % part == 0 and part <= 64)
            structure = library.index_factory(dimensions, f"IVF{lists},PQ{parts}")
            structure.do_polysemous_training = False  # an order of the codes that is not used here, and takes seconds
            structure.cp.seed = 0
            structure.cp.min_points_per_centroid = structure.pq.cp.min_points_per_centroid = 1
            step = max(1, count // (256 * max(lists, CODES)))
            structure.train(np.concatenate([some[::step] for some in vectors]))
        built = cls(kind, structure)
        built.extend(vectors)
        return built

    @classmethod
    def read(cls, kind: str, content: bytes, name: str) -> Approximate:
        """From what :meth:`serialised` gave; ``name`` is what an error calls it.

        Raises:
            RunError: when it is damaged.
        """
        library = faiss()
        try:
            return cls(kind, library.deserialize_index(np.frombuffer(content, np.uint8)))
        except RuntimeError as error:
            raise RunError(f"{name}: damaged ({' '.join(str(error).split())[:80]})") from None

    def extend(self, vectors: Sequence[np.ndarray]) -> None:
        """Add ``vectors``, which follow those that are in it."""
        library = faiss()
        threads = library.omp_get_max_threads()
        library.omp_set_num_threads(1)
        try:
            for some in vectors:
                self.structure.add(np.ascontiguousarray(some))  # type: ignore[attr-defined]
        finally:
            library.omp_set_num_threads(threads)

    def serialised(self) -> np.ndarray:
        """uint8, all that :meth:`read` needs."""
        content: np.ndarray = faiss().serialize_index(self.structure)
        return content

    def candidates(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> np.ndarray:
        """Positions [N, count] of what may be nearest to ``queries`` [N, D], -1 where there is nothing.

        Args:
            allowed: bool [rows], what may be found.
        """
        library = faiss()
        bitmap = None if allowed is None else np.packbits(allowed, bitorder="little")  # must outlive the search
        chosen = None if bitmap is None else library.IDSelectorBitmap(bitmap)
        if self.kind == "hnsw":
            asked = library.SearchParametersHNSW(sel=chosen, efSearch=max(BREADTH, 2 * count))
        else:
            lists = int(self.structure.nlist)  # type: ignore[attr-defined]
            asked = library.SearchParametersIVF(sel=chosen, nprobe=max(8, lists // 16))
            count *= WIDTH
        # faiss.contrib.torch_utils, which pytorch-metric-learning imports, puts a search without params in its place.
        search = getattr(self.structure, "search_numpy", None) or self.structure.search  # type: ignore[attr-defined]
        found: np.ndarray = search(queries, min(count, self.rows), params=asked)[1]
        return found


def nearest(
    queries: np.ndarray,
    vectors: Sequence[np.ndarray],
    k: int,
    allowed: np.ndarray | None = None,
    approximate: Approximate | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest to each of ``queries`` float32 [N, D] among ``vectors``, segments of float32 [n, D] that follow
    each other: positions int64 [N, k], -1 where there are fewer, and Euclidean distances float64, nearest first; of
    those at one distance, the first comes first.

    Distances are computed in float64 from differences. Without ``approximate``, which may have the first of them, all
    are looked at, and the order is exact.

    Args:
        allowed: bool [of all], what may be found; None is all.
    """
    starts = np.cumsum([0, *map(len, vectors)])
    skip = 0 if approximate is None else approximate.rows
    if approximate is not None and allowed is not None and int(allowed[:skip].sum()) <= FEW:
        skip, approximate = 0, None
    wanted = k + SLACK
    while True:
        near, bound = _near(queries, vectors, starts, wanted, allowed, skip)
        if approximate is not None:
            some = None if allowed is None else allowed[:skip]
            near = np.concatenate([near, approximate.candidates(queries, wanted, some)], axis=1)
        positions, distances = _in_order(queries, vectors, starts, near, k)
        last = distances[:, -1] ** 2 if distances.shape[1] == k else np.full(len(queries), np.inf)
        # Nothing that was not a candidate is nearer than the bound; else more candidates are needed.
        if np.all((last + ERROR < bound) | np.isinf(bound)):
            return positions, distances
        wanted *= 4


def _near(
    queries: np.ndarray,
    vectors: Sequence[np.ndarray],
    starts: np.ndarray,
    wanted: int,
    allowed: np.ndarray | None,
    skip: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Of each segment, from position ``skip`` on, the ``wanted`` nearest: positions [N, any number], and the squared
    distance [N] beyond which there may be more; infinite where there are none."""
    library, found = faiss(), [np.full((len(queries), 0), -1)]
    bound = np.full(len(queries), np.inf)
    for some, start in zip(vectors, starts[:-1], strict=True):
        first = max(0, skip - int(start))
        rows = np.arange(first, len(some))
        if allowed is not None:
            rows = rows[allowed[start + rows]]
        if not len(rows):
            continue
        chosen = some[first:] if len(rows) == len(some) - first else some[rows]
        squared, places = library.knn(queries, np.ascontiguousarray(chosen), min(wanted, len(rows)))
        found.append(start + rows[places])
        if len(rows) > wanted:
            bound = np.minimum(bound, squared[:, -1])
    return np.concatenate(found, axis=1), bound


def _in_order(
    queries: np.ndarray, vectors: Sequence[np.ndarray], starts: np.ndarray, near: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` nearest of candidates ``near``, by distances in float64 from differences."""
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), np.inf)
    for row, candidates in enumerate(near):
        unique = np.unique(candidates[candidates >= 0])  # ascending: the first of a tie comes first
        apart = np.linalg.norm(gathered(vectors, starts, unique) - queries[row].astype(np.float64), axis=1)
        order = np.argsort(apart, kind="stable")[:k]
        positions[row, : len(order)], distances[row, : len(order)] = unique[order], apart[order]
    return positions, distances


def gathered(vectors: Sequence[np.ndarray], starts: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The vectors at ``positions``, ascending: float64 [n, D]."""
    parts = [np.empty((0, vectors[0].shape[1]))] if len(vectors) else []
    cuts = np.searchsorted(positions, starts)
    for some, start, first, last in zip(vectors, starts[:-1], cuts[:-1], cuts[1:], strict=True):
        if last > first:
            parts.append(some[positions[first:last] - start].astype(np.float64))
    return np.concatenate(parts)
