"""The nearest of many vectors against sorting all distances by hand."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siamese.errors import ConfigError, RunError
from siamese.index import nearest as module
from siamese.index.nearest import CODES, Approximate, nearest

pytest.importorskip("faiss", reason="faiss is not installed (pip install faiss-cpu)")


def unit(random: np.random.Generator, count: int, dimensions: int, spread: float) -> np.ndarray:
    """float32 vectors of length 1, ``spread`` about one direction, of which some are the same."""
    found = random.normal(size=dimensions) + spread * random.normal(size=(count, dimensions))
    found[random.random(count) < 0.2] = found[0]
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def by_hand(query: np.ndarray, vectors: np.ndarray, allowed: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    apart = [float(np.linalg.norm(query.astype(float) - other.astype(float))) for other in vectors]
    order = sorted((i for i in range(len(vectors)) if allowed[i]), key=lambda i: (apart[i], i))[:k]
    return order, [apart[i] for i in order]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    dimensions=st.integers(2, 9),
    spread=st.sampled_from([1.0, 1e-2, 1e-5, 0.0]),
    k=st.integers(1, 12),
    share=st.sampled_from([1.0, 0.5, 0.1]),
)
def test_all_are_looked_at(seed: int, sizes: list[int], dimensions: int, spread: float, k: int, share: float) -> None:
    random = np.random.default_rng(seed)
    vectors = unit(random, sum(sizes) + 1, dimensions, spread)
    allowed = random.random(len(vectors)) < share
    segments = np.split(vectors, np.cumsum(sizes))
    queries = unit(random, 3, dimensions, spread)
    positions, distances = nearest(queries, segments, k, None if share == 1 else allowed)
    for query, places, apart in zip(queries, positions, distances, strict=True):
        expected, exact = by_hand(query, vectors, allowed if share < 1 else np.ones_like(allowed), k)
        assert places[places >= 0].tolist() == expected
        assert apart[: len(exact)].tolist() == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("torch_too", [False, True])  # what pytorch-metric-learning does to faiss
@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_an_approximate_index_finds_most_and_what_came_later(
    kind: str, torch_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch_too:
        importlib.import_module("faiss.contrib.torch_utils")
    monkeypatch.setattr(module, "FEW", 500)
    random = np.random.default_rng(1)
    vectors = unit(random, 6_000, 16, 1.0)
    vectors = vectors[np.unique(vectors, axis=0, return_index=True)[1]]
    first, later = vectors[:-500], vectors[-500:]
    approximate = Approximate.build(kind, np.array_split(first, 3))
    again = Approximate.read(kind, approximate.serialised().tobytes(), "x")
    assert again.rows == len(first)
    queries = np.concatenate([first[:40], later[:40]])
    exact = nearest(queries, [first, later], 10)
    found = nearest(queries, [first, later], 10, None, again)
    share = np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(exact[0], found[0], strict=True)])
    assert share > 0.75  # of directions that are like no other, which nothing but looking at all finds well
    assert (found[0][:, 0] == exact[0][:, 0]).mean() > 0.95
    assert (found[0][40:, 0] == np.arange(len(first), len(first) + 40)).all()  # not in it, and found
    # Where few are allowed, all of them are looked at.
    allowed = random.random(len(vectors)) < 0.05
    exact, found = (nearest(queries, [first, later], 10, allowed, how) for how in (None, again))
    assert (exact[0] == found[0]).all()
    # Where many are, nothing else is found.
    allowed = random.random(len(vectors)) < 0.9
    found = nearest(queries, [first, later], 10, allowed, again)
    assert allowed[found[0]].all()


def test_the_same_vectors_give_the_same_index() -> None:
    vectors = unit(np.random.default_rng(2), 3000, 8, 1.0)
    for kind in ("hnsw", "ivfpq"):
        one, other = (Approximate.build(kind, [vectors]).serialised() for _ in range(2))
        assert one.tobytes() == other.tobytes(), kind


def test_what_an_approximate_index_refuses() -> None:
    vectors = unit(np.random.default_rng(3), CODES - 1, 8, 1.0)
    with pytest.raises(ConfigError, match="at least 256 images, found 255"):
        Approximate.build("ivfpq", [vectors])
    whole = Approximate.build("hnsw", [vectors]).serialised().tobytes()
    with pytest.raises(RunError, match=r"^x: damaged"):
        Approximate.read("hnsw", whole[: len(whole) // 2], "x")
