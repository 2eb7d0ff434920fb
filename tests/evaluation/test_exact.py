"""Order and ties, where they are hard to tell: near collapse, at any length, under other names, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from siamese.evaluation import Undefined, intervals
from siamese.evaluation.blocks import rows
from siamese.evaluation.measure import How, Roles, measure
from siamese.evaluation.nearest import ranked
from siamese.evaluation.pairs import verification_of_all_pairs
from siamese.evaluation.retrieval import all_against_all, retrieval
from siamese.evaluation.verification import Triplets


def directions(z: np.ndarray) -> np.ndarray:
    wide = z.astype(np.float64)
    wide /= np.abs(wide).max(1, keepdims=True)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


def keys(z: np.ndarray) -> np.ndarray:
    """Squared distances [N, N] by subtraction in float64, rounded to float32: what is equal then is a tie."""
    u = directions(z)
    squared = np.square(u[:, None] - u[None]).sum(2)
    return np.where(squared < 2.0**-98, 0, squared).astype(np.float32)


def by_hand(
    z: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    gallery: np.ndarray,
    groups: np.ndarray | None = None,
) -> dict[str, float]:
    """Retrieval by sorting lists; of equals, what is wrong first."""
    distances, found = keys(z), []
    for q in queries:
        if labels[q] < 0:
            continue
        others = [g for g in gallery if g != q]
        if groups is not None:
            others = [g for g in others if not (labels[g] == labels[q] and groups[g] == groups[q] >= 0)]
        order = sorted(others, key=lambda g: (distances[q, g], labels[g] == labels[q]))
        hits = [labels[g] == labels[q] for g in order]
        r = sum(hits)
        if not r:
            continue
        one: dict[str, float] = {f"recall_at_{k}": float(any(hits[:k])) for k in (1, 5, 10)}
        one["map_at_r"] = sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r
        one["r_precision"] = sum(hits[:r]) / r
        one["mrr"] = 1 / (1 + hits.index(True))
        one["mean_average_precision"] = sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / r
        found.append(one)
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]} if found else {}


def embeddings(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if kind == "spread":
        return random.normal(size=(n, d)).astype(np.float32)
    if kind == "integers":
        return (random.integers(-2, 3, (n, d)) * 2.0 + 1).astype(np.float32)
    if kind == "half":
        return random.normal(size=(n, d)).astype(np.float16)
    if kind == "collapsed":
        return (1 + 1e-5 * random.normal(size=(n, d))).astype(np.float32)
    if kind == "two places":  # far apart, and tight, so that products in float32 tell nothing apart
        return (np.eye(2, d)[random.integers(0, 2, n)] + 1e-6 * random.normal(size=(n, d))).astype(np.float32)
    if kind == "minute":  # below what float32 holds
        return np.ones((n, d)) + 1e-12 * random.normal(size=(n, d))
    doubled = random.normal(size=(max(2, n // 3), d)).astype(np.float32)
    return doubled[random.integers(0, len(doubled), n)]


KINDS = ("spread", "integers", "half", "collapsed", "two places", "minute", "duplicates")


@given(
    kind=st.sampled_from(KINDS),
    n=st.integers(2, 60),
    d=st.sampled_from((1, 2, 3, 17)),
    classes=st.sampled_from((1, 2, 5, 30)),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=150)
def test_retrieval_is_what_sorting_exact_distances_gives(kind: str, n: int, d: int, classes: int, seed: int) -> None:
    z = embeddings(kind, n, d, seed)
    labels = np.random.default_rng(seed + 1).integers(0, classes, n)
    found = retrieval(z, labels)
    everything = np.arange(n)
    for name, value in by_hand(z, labels, everything, everything).items():
        if name in found and isinstance(found[name], float):
            assert found[name] == pytest.approx(value, abs=1e-9), name


@given(
    kind=st.sampled_from(KINDS),
    classes=st.sampled_from((2, 6, 20)),
    seed=st.integers(0, 999),
    grouped=st.booleans(),
    overlap=st.booleans(),
)
@settings(deadline=None, max_examples=80)
def test_queries_look_in_the_gallery_alone(kind: str, classes: int, seed: int, grouped: bool, overlap: bool) -> None:
    random = np.random.default_rng(seed)
    n = 50
    z, labels = embeddings(kind, n, 5, seed), random.integers(-1, classes, n)
    queries = np.sort(random.choice(n, 20, replace=False))
    gallery = np.sort(random.choice(n, 35, replace=False)) if overlap else np.setdiff1d(np.arange(n), queries)
    groups = random.integers(-1, 3, n) if grouped else None
    found = measure(z, labels, np.empty((0, 3), dtype=int), classes, roles=Roles(queries, gallery, groups))
    expected = by_hand(z, labels, queries, gallery, groups)
    assert {name: found.values[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    kept = [
        q
        for q in queries
        if labels[q] >= 0
        and any(
            labels[g] == labels[q] and g != q and (groups is None or not groups[g] == groups[q] >= 0) for g in gallery
        )
    ]
    assert found.counts == {
        "queries": 20,
        "queries_without_match": 20 - len(kept),
        "gallery": len(gallery),
        "distractors": int((labels[gallery] < 0).sum()),
    }
    assert found.queries["query"].tolist() == kept
    pairs = [
        (labels[q] == labels[g], keys(z)[q, g])
        for q, g in itertools.product(queries, gallery)
        if labels[q] >= 0
        and q != g
        and not (groups is not None and labels[q] == labels[g] and groups[q] == groups[g] >= 0)
    ]
    same, distances = np.array(pairs).T
    if 0 < same.sum() < len(same):
        assert found.values["pairs_auc"] == pytest.approx(roc_auc_score(same, -distances), abs=1e-4)


def test_queries_without_a_class_find_nothing_and_that_is_said() -> None:
    z, labels = embeddings("spread", 12, 4, 0), np.array([-1] * 4 + [0, 1] * 4)
    found = measure(z, labels, np.empty((0, 3), dtype=int), 2, roles=Roles(np.arange(4), np.arange(4, 12)))
    assert found.counts["queries_without_match"] == 4
    for name in ("recall_at_1", "mean_average_precision", "pairs_auc"):
        assert isinstance(found.values[name], Undefined), name
    assert isinstance(found.values["intra_distance"], float)


def test_mean_average_precision_is_scikit_learns() -> None:
    random = np.random.default_rng(0)
    z, labels = random.normal(size=(60, 4)).astype(np.float32), random.integers(0, 4, 60)
    queries, gallery = np.arange(20), np.arange(20, 60)
    found = measure(z, labels, np.empty((0, 3), dtype=int), 4, roles=Roles(queries, gallery)).values
    expected = [average_precision_score(labels[gallery] == labels[q], -keys(z)[q, gallery]) for q in queries]
    assert found["mean_average_precision"] == pytest.approx(np.mean(expected), abs=1e-9)


@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 99), classes=st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_renaming_the_classes_changes_nothing(kind: str, seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    z, labels = embeddings(kind, 60, 2, seed), random.integers(0, classes, 60)
    renamed = random.permutation(classes)[labels]
    triplets = np.empty((0, 3), dtype=int)
    before, after = (measure(z, of, triplets, classes).values for of in (labels, renamed))
    if kind == "minute":  # which the probe's own arithmetic cannot tell apart
        del before["linear_probe"]
        del after["linear_probe"]
    assert before == pytest.approx(after, abs=1e-9)


@pytest.mark.parametrize("length", [1e-20, 1e160, 1e-300])
def test_rows_measure_as_their_directions_do(length: float) -> None:
    random = np.random.default_rng(3)
    z, labels = random.normal(size=(40, 6)), np.arange(40) % 4
    triplets = np.stack([np.arange(40), (np.arange(40) + 4) % 40, (np.arange(40) + 1) % 40], axis=1)
    before, after = (measure(by * z, labels, triplets, 4).values for by in (1.0, length))
    of_lengths = {name for name in before if name == "accuracy" or "area" in name}
    for name in set(before) - of_lengths:
        if isinstance(before[name], Undefined):
            assert after[name] == before[name]
        else:
            assert after[name] == pytest.approx(before[name], rel=1e-6), name


def test_triplets_are_told_apart_however_near_they_are() -> None:
    rows_ = np.array([[1, 0], [1, 1e-4], [1, 3e-4]], dtype=np.float32)
    values = Triplets.of(rows_, np.array([[0, 1, 2]])).values()
    assert (values["auc"], values["good_triplets"]) == (1, 1)
    assert values["euclid_positive"] == pytest.approx(1e-4, rel=1e-3)
    assert values["euclid_negative"] == pytest.approx(3e-4, rel=1e-3)
    for scale in (1e-3, 1e-6, 1e-9):
        assert retrieval(1 + scale * np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3) == pytest.approx(
            retrieval(1 + 1e-2 * np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3), abs=0.06
        )


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-7])
def test_pairs_are_told_apart_however_near_they_are(spread: float) -> None:
    random = np.random.default_rng(4)
    labels = np.arange(300) % 10
    z = 1 + spread * (0.7 * random.normal(size=(10, 8))[labels] + random.normal(size=(300, 8)))
    i, j = np.triu_indices(300, 1)
    exact = roc_auc_score(labels[i] == labels[j], -keys(z)[i, j].astype(np.float64))
    assert verification_of_all_pairs(z, labels)["pairs_auc"] == pytest.approx(exact, abs=1e-5)
    triplets = np.stack([i, i, j], axis=1)[labels[i] != labels[j]][:500]
    triplets[:, 1] = (triplets[:, 0] + 10) % 300
    found = Triplets.of(z, triplets)
    near, far = keys(z)[triplets[:, 0], triplets[:, 1]], keys(z)[triplets[:, 0], triplets[:, 2]]
    truth = roc_auc_score(np.repeat([1, 0], 500), -np.concatenate([near, far]).astype(np.float64))
    assert found.values()["auc"] == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("kind", ["spread", "two places", "duplicates"])
def test_the_nearest_are_the_nearest_where_there_are_many(kind: str) -> None:
    z, labels = embeddings(kind, 700, 16, 5), np.random.default_rng(6).integers(0, 200, 700)
    search = all_against_all(rows(z, labels))
    exact = keys(z[search.rows.order])
    np.fill_diagonal(exact, np.inf)
    for block in ranked(search, lambda some: 24):
        own = search.rows.labels[np.arange(700)[block.queries]]
        got = np.take_along_axis(exact[block.queries], block.columns.numpy(), 1)
        if kind != "spread":  # of one class the order may be any
            got = np.sort(got, axis=1)
        assert np.array_equal(got, np.sort(exact[block.queries], axis=1)[:, :24])
        right = (search.rows.labels[block.right.numpy()] == own) & (block.right.numpy() >= 0)
        assert np.array_equal(right, block.first.numpy() > 0)


@given(st.integers(5, 40), st.integers(5, 300), st.integers(0, 99), st.integers(0, 3), st.integers(2, 40))
@settings(deadline=None, max_examples=40)
def test_pairs_of_units_counted_once_are_those_of_every_draw(
    count: int, triplets: int, seed: int, digits: int, piece: int
) -> None:
    random = np.random.default_rng(seed)
    positive, negative = (random.normal(one, 0.5, triplets).round(digits).astype(np.float32) for one in (2, 3))
    found, units = Triplets(positive, negative, np.zeros((triplets, 2))), random.integers(0, count, triplets)
    codes = np.unique(units, return_inverse=True)[1]
    weights = random.integers(0, 4, (7, codes.max() + 1)).astype(float)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "PIECE", piece)
        counted = intervals._of_units(found, codes, codes.max() + 1)(weights)
    nearer = (positive[:, None] < negative) + 0.5 * (positive[:, None] == negative)
    expected = [of[codes] @ nearer @ of[codes] for of in weights]
    assert counted == pytest.approx(expected, abs=1e-9)
    assert intervals._of_anchors(found, codes)(weights) == pytest.approx(expected, abs=1e-9)


def test_intervals_are_those_of_drawing_again() -> None:
    random = np.random.default_rng(7)
    labels = np.repeat(np.arange(20), 15)
    z = random.normal(size=(20, 6))[labels] + 1.2 * random.normal(size=(300, 6))
    triplets = np.stack(
        [np.arange(300), (np.arange(300) // 15) * 15 + (np.arange(300) + 1) % 15, (np.arange(300) + 15) % 300], 1
    )
    for over_classes in (False, True):
        found = measure(z, labels, triplets, 20, How(resamples=2000, over_classes=over_classes))
        for name in ("auc", "recall_at_1", "map_at_r", "good_triplets"):
            low, high = found.intervals[name]
            assert low < found.values[name] < high
        units = labels if over_classes else np.arange(300)
        hit = np.zeros(300)
        hit[found.queries["query"]] = found.queries["first"] == 1
        pairs, drawn = Triplets.of(z, triplets), {"auc": [], "recall_at_1": []}
        for _ in range(600):
            some = random.choice(np.unique(units), len(np.unique(units)))
            rows_ = np.concatenate([np.flatnonzero(units == unit) for unit in some])
            drawn["recall_at_1"].append(hit[rows_].mean())
            scores = -np.concatenate([pairs.positive[rows_], pairs.negative[rows_]]).astype(np.float64)
            drawn["auc"].append(roc_auc_score(np.repeat([1, 0], len(rows_)), scores))
        for name, of in drawn.items():
            width = found.intervals[name][1] - found.intervals[name][0]
            assert np.quantile(of, [0.025, 0.975]) == pytest.approx(found.intervals[name], abs=0.15 * width), name
    narrow, wide = (
        measure(z, labels, triplets, 20, How(resamples=500, over_classes=over)).intervals["recall_at_1"]
        for over in (False, True)
    )
    assert wide[1] - wide[0] > narrow[1] - narrow[0]


def test_what_grows_too_fast_has_a_reason_beyond_its_bound() -> None:
    random = np.random.default_rng(8)
    z, labels = random.normal(size=(60, 5)), np.arange(60) % 12
    found = measure(z, labels, np.empty((0, 3), dtype=int), 12, How(most_classes=11, most_images=59))
    for name in ("nmi", "ami", "linear_probe"):
        assert "evaluation.most_classes=11 classes, found 12" in found.values[name].reason
    assert "evaluation.most_images=59 images, found 60" in found.values["pairs_auc"].reason
    assert "most_images" in found.values["uniformity"].reason
    whole = measure(z, labels, np.empty((0, 3), dtype=int), 12)
    same = ("recall_at_1", "map_at_r", "intra_distance", "inter_distance_std", "nn_distance_median")
    assert {name: found.values[name] for name in same} == {name: whole.values[name] for name in same}
    assert found.arrays["distances"].keys() == {"nearest", "distances", "within", "confused"}
    matrix = whole.arrays["distances"]["matrix"].copy()
    np.fill_diagonal(matrix, np.inf)
    assert np.array_equal(found.arrays["distances"]["nearest"], np.argsort(matrix, axis=1)[:, :10])
    assert found.confused == whole.confused


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_measures_the_same() -> None:
    z, labels = embeddings("spread", 500, 16, 9), np.arange(500) % 40
    triplets = np.empty((0, 3), dtype=int)
    before, after = (measure(z, labels, triplets, 40, How(device=on)).values for on in ("cpu", "cuda"))
    assert after == pytest.approx(before, abs=1e-7)
