"""Every measure against other people's implementations, brute force in float64, and known answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score, roc_auc_score, roc_curve
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from torchmetrics.functional.classification import binary_eer
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_r_precision, retrieval_reciprocal_rank

from siamese.evaluation import METRICS, Undefined
from siamese.evaluation.blocks import every_pair, rows
from siamese.evaluation.curve import Curve, error_rates
from siamese.evaluation.geometry import Classes, distance_matrix, geometry, most_confused
from siamese.evaluation.measure import How, measure
from siamese.evaluation.names import direction
from siamese.evaluation.nearest import ranked
from siamese.evaluation.pairs import PairCounts, verification_of_all_pairs
from siamese.evaluation.probes import clustering, linear_probe
from siamese.evaluation.projection import ellipse, ellipses, fit_projection, normalised_areas
from siamese.evaluation.retrieval import all_against_all, rank, retrieval
from siamese.evaluation.spread import Spread, kozachenko_leonenko, spread
from siamese.evaluation.verification import accuracy, best_threshold, pair_distances


def clusters(n: int, d: int, classes: int, seed: int, apart: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """float32 [n, d] around a centre a class, and labels in no order, of every class at least one."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.concatenate([np.arange(classes), random.integers(0, classes, n - classes)]))
    z = apart * random.normal(size=(classes, d))[labels] + random.normal(size=(n, d))
    return z.astype(np.float32), labels


def tied(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of very few directions, so that nearly every distance is a tie."""
    random = np.random.default_rng(seed)
    z = random.integers(-1, 2, (n, 2)) * 2.0 + random.choice([0.5, 1.0], (n, 1))
    return z.astype(np.float32), random.integers(0, classes, n)


def triplets_of(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    found = []
    for a, label in enumerate(labels):
        same = np.flatnonzero((labels == label) & (np.arange(len(labels)) != a))
        other = np.flatnonzero(labels != label)
        if len(same) and len(other):
            found.append((a, random.choice(same), random.choice(other)))
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def unit(z: np.ndarray) -> np.ndarray:
    return z.astype(np.float64) / np.linalg.norm(z.astype(np.float64), axis=1, keepdims=True)


def squared(z: np.ndarray) -> np.ndarray:
    """Squared distances of the unit rows by subtraction, with ties at float32 as the measures have them."""
    u = unit(z)
    return np.square(u[:, None] - u[None]).sum(2).round(9)


# -- retrieval -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "classes", "seed"), [(80, 8, 5, 0), (60, 3, 12, 1), (120, 32, 2, 2)])
def test_retrieval_is_the_librarys(n: int, d: int, classes: int, seed: int) -> None:
    z, labels = clusters(n, d, classes, seed)
    found = retrieval(z, labels)
    places = torch.from_numpy(z), torch.from_numpy(labels)
    names = {
        "precision_at_1": "recall_at_1",
        "mean_average_precision_at_r": "map_at_r",
        "r_precision": "r_precision",
        "mean_reciprocal_rank": "mrr",
    }
    calculator = AccuracyCalculator(
        include=tuple(names), k=n - 1, knn_func=CustomKNN(CosineSimilarity()), device=torch.device("cpu")
    )
    theirs = calculator.get_accuracy(*places, *places, ref_includes_query=True)
    for name, ours in names.items():
        assert found[ours] == pytest.approx(theirs[name], abs=1e-6), name


def test_retrieval_is_torchmetrics_query_by_query() -> None:
    z, labels = clusters(50, 6, 6, 3)
    ranking = rank(all_against_all(rows(z, labels)))
    cosine = torch.from_numpy(1 - cosine_distances(z.astype(np.float64)))
    for place, query in enumerate(ranking.search.rows.order):
        others = torch.arange(50) != query
        scores, target = cosine[query][others], torch.from_numpy(labels == labels[query])[others]
        if not target.any():
            continue
        assert ranking.first[place] == round(1 / retrieval_reciprocal_rank(scores, target).item())
        assert ranking.r_precision[place] == pytest.approx(retrieval_r_precision(scores, target).item(), abs=1e-6)
        for k in (1, 5, 10):
            assert (ranking.first[place] <= k) == bool(retrieval_hit_rate(scores, target, top_k=k))


def counted_by_hand(z: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Retrieval measures by sorting lists; of equals the other classes first, in the order that rows have."""
    distances, found, place = squared(z), [], np.argsort(rows(z, labels).order)
    for q, label in enumerate(labels):
        others = sorted((distances[q, j], labels[j] == label, place[j], labels[j]) for j in range(len(z)) if j != q)
        hits = [right for _, right, *_ in others]
        r = sum(hits)
        if not r:
            continue
        one: dict[str, float] = {f"recall_at_{k}": float(any(hits[:k])) for k in (1, 5, 10)}
        one["map_at_r"] = sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r
        one["r_precision"] = sum(hits[:r]) / r
        one["mrr"] = 1 / (1 + hits.index(True))
        near = [int(other) for *_, other in others]
        for k in (1, 5, 20):
            ranks = {c: [i for i, other in enumerate(near[:k]) if other == c] for c in set(near[:k])}
            one[f"knn_{k}"] = float(min(ranks, key=lambda c: (-len(ranks[c]), ranks[c])) == label)
        found.append(one)
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


@given(n=st.integers(21, 40), classes=st.integers(1, 5), seed=st.integers(0, 999), ties=st.booleans())
@settings(deadline=None, max_examples=40)
def test_retrieval_is_what_sorting_gives_ties_included(n: int, classes: int, seed: int, ties: bool) -> None:
    z, labels = tied(n, classes, seed) if ties else clusters(n, 4, classes, seed)
    found = retrieval(z, labels)
    for name, value in counted_by_hand(z, labels).items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


def test_knn_is_scikit_learns_where_no_vote_is_tied() -> None:
    z, labels = clusters(60, 5, 2, 4)
    distances = cosine_distances(z.astype(np.float64))
    np.fill_diagonal(distances, 9.0)
    found = retrieval(z, labels)
    for k in (1, 5):
        model = KNeighborsClassifier(k, metric="precomputed").fit(distances, labels)
        assert found[f"knn_{k}"] == pytest.approx((model.predict(distances) == labels).mean())


# -- verification --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "d", "classes", "seed"), [(60, 8, 4, 0), (90, 3, 7, 1), (150, 64, 2, 2)])
def test_all_pairs_are_scikit_learns(n: int, d: int, classes: int, seed: int) -> None:
    z, labels = clusters(n, d, classes, seed)
    found = verification_of_all_pairs(z, labels)
    i, j = np.triu_indices(n, 1)
    same, cosine = labels[i] == labels[j], (unit(z)[i] * unit(z)[j]).sum(1)
    assert found["pairs_auc"] == pytest.approx(roc_auc_score(same, cosine), abs=2e-6)
    fpr, tpr, _ = roc_curve(same, cosine, drop_intermediate=False)
    assert found["pairs_eer"] == pytest.approx(brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1), abs=1e-3)
    assert found["pairs_tar_at_far_1e-1"] == pytest.approx(tpr[fpr <= 0.1].max(), abs=1e-3)
    assert found["pairs_tar_at_far_1e-2"] == pytest.approx(tpr[fpr <= 0.01].max(), abs=2e-3)
    euclid = np.linalg.norm(unit(z)[i] - unit(z)[j], axis=1)
    for name, kind in (("positive", same), ("negative", ~same)):
        assert found[f"pairs_cos_{name}"] == pytest.approx(cosine[kind].mean(), abs=1e-9)
        assert found[f"pairs_euclid_{name}"] == pytest.approx(euclid[kind].mean(), abs=1e-6)


def counts_of(z: np.ndarray, labels: np.ndarray, entries: int = 1 << 22) -> PairCounts:
    prepared = rows(z, labels)
    counts = PairCounts(prepared)
    for block in every_pair(prepared.unit, entries):
        counts.add(block)
    return counts


@given(n=st.integers(4, 25), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_tied_pairs_count_one_half(n: int, seed: int) -> None:
    z, labels = tied(n, 2, seed)
    i, j = np.triu_indices(n, 1)
    same, distances = labels[i] == labels[j], squared(z)[i, j]
    found = verification_of_all_pairs(z, labels)["pairs_auc"]
    if same.all() or not same.any():
        assert isinstance(found, Undefined)
    else:
        assert found == pytest.approx(roc_auc_score(same, -distances), abs=1e-9)


def test_the_histogram_counts_each_pair_once() -> None:
    z, labels = clusters(70, 6, 3, 5)
    histogram = counts_of(z, labels).histogram()
    i, j = np.triu_indices(70, 1)
    cosine = (unit(z)[i] * unit(z)[j]).sum(1)
    for name, kind in (("positive", labels[i] == labels[j]), ("negative", labels[i] != labels[j])):
        expected, edges = np.histogram(cosine[kind], 128, (-1, 1))
        assert np.array_equal(histogram[name], expected)
        assert np.allclose(histogram["edges"], edges)
    ends = counts_of(np.array([[1.0, 0], [2, 0], [-1, 0]], dtype=np.float32), np.array([0, 0, 1])).histogram()
    assert ends["positive"][-1] == 1
    assert ends["negative"][0] == 2


def test_nearly_collapsed_embeddings_are_still_told_apart() -> None:
    z, labels = clusters(80, 8, 2, 6, apart=3)
    flat = (np.ones((80, 8)) + 1e-4 * z).astype(np.float64)
    i, j = np.triu_indices(80, 1)
    u = unit(flat)
    exact = roc_auc_score(labels[i] == labels[j], -np.square(u[i] - u[j]).sum(1))
    assert verification_of_all_pairs(flat, labels)["pairs_auc"] == pytest.approx(exact, abs=1e-5)


def test_error_rates_read_a_known_curve() -> None:
    fpr, tpr = np.array([0.0, 0.0, 0.1, 0.4, 1.0]), np.array([0.0, 0.5, 0.7, 0.9, 1.0])
    found = error_rates(Curve(fpr, tpr, np.arange(5.0), 100))
    assert found["eer"] == pytest.approx(0.22)  # on the line from (.1, .7) to (.4, .9) where x = 1 - y
    assert found["tar_at_far_1e-1"] == 0.7
    assert found["tar_at_far_1e-2"] == 0.5
    assert found["tar_at_far_1e-3"] == Undefined(
        "it needs 1000 pairs of different classes, found 100 pairs of ..."
    ) or (isinstance(found["tar_at_far_1e-3"], Undefined) and "needs 1000 pairs" in found["tar_at_far_1e-3"].reason)
    exact = error_rates(Curve(np.array([0.0, 0.25, 1]), np.array([0.0, 0.75, 1]), np.arange(3.0), 4))
    assert exact["eer"] == 0.25


def test_the_equal_error_rate_is_near_torchmetrics() -> None:
    z, labels = clusters(300, 8, 4, 7)
    triplets = triplets_of(labels)
    found = measure(z, labels, triplets, 4).values
    a, p, n = (unit(z)[triplets[:, k]] for k in range(3))
    scores = torch.from_numpy((1 + np.concatenate([(a * p).sum(1), (a * n).sum(1)])) / 2)
    theirs = binary_eer(scores, torch.arange(2).flip(0).repeat_interleave(len(triplets))).item()
    assert found["eer"] == pytest.approx(theirs, abs=1 / len(triplets))


@given(seed=st.integers(0, 999), p=st.integers(0, 12), q=st.integers(0, 12))
@settings(deadline=None, max_examples=60)
def test_no_threshold_is_better_than_the_best(seed: int, p: int, q: int) -> None:
    random = np.random.default_rng(seed)
    positive, negative = random.integers(0, 6, p) / 4, random.integers(1, 8, q) / 4
    if not p + q:
        with pytest.raises(ValueError, match="found none"):
            best_threshold(positive, negative)
        return
    best = accuracy(positive, negative, best_threshold(positive, negative))
    for threshold in np.arange(-1, 20) / 8:
        right = [d < threshold for d in positive] + [d >= threshold for d in negative]
        assert best >= accuracy(positive, negative, threshold) == pytest.approx(np.mean(right))


def test_the_threshold_of_one_part_is_applied_to_another() -> None:
    z, labels = clusters(60, 4, 3, 8)
    triplets = triplets_of(labels)
    own = measure(z, labels, triplets, 3)
    given_one = measure(z, labels, triplets, 3, How(threshold=0.5))
    positive, negative = pair_distances(z, triplets)
    assert own.values["accuracy"] == accuracy(positive, negative, best_threshold(positive, negative))
    assert given_one.values["accuracy"] == accuracy(positive, negative, 0.5)
    assert (own.threshold, given_one.threshold) == (best_threshold(positive, negative), 0.5)


# -- geometry ------------------------------------------------------------------------------------


def test_class_distances_are_means_over_pairs_of_different_images() -> None:
    z, labels = clusters(40, 5, 4, 9)
    distances = cosine_distances(z.astype(np.float64))
    matrix = distance_matrix(z, labels, 4)
    for a, b in itertools.product(range(4), repeat=2):
        block = distances[np.ix_(labels == a, labels == b)]
        off = block[~np.eye(len(block), dtype=bool)] if a == b else block
        assert matrix[a, b] == pytest.approx(off.mean(), abs=1e-9)
    found = geometry(z, labels, 4)
    off = ~np.eye(4, dtype=bool)
    assert found["intra_distance"] == pytest.approx(matrix.diagonal().mean())
    assert found["intra_distance_std"] == pytest.approx(matrix.diagonal().std())
    assert found["inter_distance"] == pytest.approx(matrix[off].mean())
    assert found["inter_distance_std"] == pytest.approx(matrix[off].std())
    assert found["separation"] == pytest.approx(matrix[off].mean() - matrix.diagonal().mean())
    nearest = most_confused(Classes(z, labels, 4), 2)
    one, other = np.unravel_index(np.where(off, matrix, 9).argmin(), (4, 4))
    assert nearest[0][:2] == (one, other)
    assert nearest[0].distance <= nearest[1].distance


def test_absent_classes_and_single_images_have_no_distance() -> None:
    z = np.array([[1, 0], [0, 1], [0, 2], [1, 1]], dtype=np.float32)
    labels = np.array([0, 1, 1, 3])
    matrix = distance_matrix(z, labels, 4)
    assert np.isnan(matrix[2]).all()
    assert np.isnan(matrix[0, 0])
    assert matrix[1, 1] == pytest.approx(0)
    assert matrix[0, 1] == pytest.approx(1)
    assert geometry(z, labels, 4)["intra_distance"] == pytest.approx(0)
    assert len(most_confused(Classes(z, labels, 4))) == 3


# -- spread --------------------------------------------------------------------------------------


def test_alignment_and_uniformity_are_the_papers() -> None:
    z, labels = clusters(50, 6, 4, 10)
    found = spread(z, labels)
    u = torch.from_numpy(unit(z))
    i, j = np.triu_indices(50, 1)
    same = labels[i] == labels[j]
    alignment = (u[i[same]] - u[j[same]]).norm(p=2, dim=1).pow(2).mean().item()
    uniformity = torch.pdist(u, p=2).pow(2).mul(-2).exp().mean().log().item()
    assert found["alignment"] == pytest.approx(alignment, abs=1e-9)
    assert found["uniformity"] == pytest.approx(uniformity, abs=1e-6)


def test_neighbour_distances_are_scikit_learns() -> None:
    z, labels = clusters(200, 6, 4, 11)
    distances = NearestNeighbors(n_neighbors=2).fit(unit(z)).kneighbors(unit(z))[0][:, 1]
    found = spread(z, labels)
    for name, q in (("q05", 0.05), ("median", 0.5), ("q95", 0.95)):
        assert found[f"nn_distance_{name}"] == pytest.approx(np.quantile(distances, q), abs=1e-9)
    dimension = 5  # of the sphere in 6 dimensions
    ball = math.pi ** (dimension / 2) / math.gamma(dimension / 2 + 1)
    harmonic = sum(1 / k for k in range(1, 200))  # ψ(200) − ψ(1)
    expected = harmonic + math.log(ball) + dimension * np.log(distances).mean()
    assert found["entropy"] == pytest.approx(expected, abs=1e-6)


def test_ranks_of_known_spectra() -> None:
    axes = np.eye(4, dtype=np.float32).repeat(5, axis=0)
    assert spread(axes, np.zeros(20, dtype=int))["effective_rank"] == pytest.approx(4)
    plane = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6), np.zeros(12)], 1)
    found = spread(plane, np.zeros(12, dtype=int))
    assert found["effective_rank"] == pytest.approx(2)
    assert found["participation_ratio"] == pytest.approx(2)
    z, labels = clusters(80, 7, 3, 12)
    s = np.linalg.svd(unit(z), compute_uv=False)
    p = s / s.sum()
    eigenvalues = np.linalg.eigvalsh(np.cov(unit(z), rowvar=False))
    found = spread(z, labels)
    assert found["effective_rank"] == pytest.approx(math.exp(-(p * np.log(p)).sum()))
    assert found["participation_ratio"] == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())


@pytest.mark.parametrize("sd", [1.0, 0.2])
def test_the_entropy_of_a_gaussian_cloud(sd: float) -> None:
    points = np.random.default_rng(0).normal(scale=sd, size=(4000, 3))
    distances = NearestNeighbors(n_neighbors=2).fit(points).kneighbors(points)[0][:, 1]
    exact = 1.5 * math.log(2 * math.pi * math.e * sd**2)
    assert kozachenko_leonenko(distances, 3) == pytest.approx(exact, abs=0.06)


def test_the_entropy_of_the_whole_sphere_is_the_log_of_its_area() -> None:
    z = np.random.default_rng(1).normal(size=(4000, 3))
    assert spread(z, np.zeros(4000, dtype=int))["entropy"] == pytest.approx(math.log(4 * math.pi), abs=0.06)


def test_spread_over_a_fixed_number_of_images() -> None:
    z, labels = clusters(100, 5, 3, 13)
    chosen = np.linspace(0, 99, 30).astype(int)
    assert spread(z, labels, images=30) == spread(z[chosen], labels[chosen])
    assert all(isinstance(value, Undefined) for value in spread(z, labels, images=101).values())
    whole = measure(z, labels, triplets_of(labels), 3, How(spread_images=30)).values
    assert whole["entropy"] == spread(z, labels, images=30)["entropy"]
    assert whole["recall_at_1"] == retrieval(z, labels)["recall_at_1"]


# -- projection ----------------------------------------------------------------------------------


def test_the_projection_is_scikit_learns() -> None:
    z, _ = clusters(60, 9, 3, 14)
    ours, theirs = fit_projection(z), PCA(2, svd_solver="full").fit(z.astype(np.float64))
    signs = np.sign((ours.components * theirs.components_).sum(1))
    assert np.allclose(ours.components, theirs.components_ * signs[:, None], atol=1e-9)
    assert np.allclose(ours.explained_variance_ratio, theirs.explained_variance_ratio_, atol=1e-9)
    assert np.allclose(ours(z), theirs.transform(z.astype(np.float64)) * signs, atol=1e-9)
    assert all(component[np.abs(component).argmax()] > 0 for component in ours.components)


def test_one_projection_for_several_runs() -> None:
    (a, _), (b, _) = clusters(40, 5, 2, 15), clusters(30, 5, 2, 16)
    shared = fit_projection(a, b)
    assert np.allclose(shared.components, fit_projection(np.concatenate([a, b])).components)
    assert np.allclose(np.concatenate([shared(a), shared(b)]).mean(0), 0, atol=1e-6)


def test_an_ellipse_of_a_gaussian_cloud_has_the_area_of_its_quantile() -> None:
    random = np.random.default_rng(0)
    turn = np.array([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    points = random.normal(size=(20000, 2)) * [3, 1] @ turn.T + [5, -2]
    for coverage in (0.5, 0.9):
        found = ellipse(points, coverage)
        exact = math.pi * 3 * 1 * -2 * math.log(1 - coverage)  # the quantile of χ² with 2 degrees
        assert found.area == pytest.approx(exact, rel=0.03)
        assert found.width / found.height == pytest.approx(3, rel=0.03)
        assert math.tan(found.angle) == pytest.approx(math.tan(0.5), rel=0.03)
        assert np.allclose(found.centre, [5, -2], atol=0.05)
        axes = np.array(
            [[math.cos(found.angle), math.sin(found.angle)], [-math.sin(found.angle), math.cos(found.angle)]]
        )
        within = np.square((points - found.centre) @ axes.T / [found.width / 2, found.height / 2]).sum(1) <= 1
        assert within.mean() == pytest.approx(coverage, abs=1e-3)


def test_normalised_areas_are_those_of_normalised_points() -> None:
    z, labels = clusters(90, 6, 3, 17)
    points = fit_projection(z)(z)
    scaled = (points - points.min(0)) / np.ptp(points, axis=0)
    direct = [one.area for one in ellipses(scaled, labels, 3, 0.5) if one is not None]
    assert np.allclose(normalised_areas(ellipses(points, labels, 3, 0.5), points), direct, rtol=1e-9)
    found = measure(z, labels, triplets_of(labels), 3)
    assert found.values["normalised_area_mean"] == pytest.approx(np.mean(direct))
    assert found.values["legacy_area_mean"] == pytest.approx(4 * np.mean(direct))
    assert found.per_class["legacy_area"] == pytest.approx(4 * np.array(direct))
    widths, heights = (found.arrays["projection"][name] for name in ("widths", "heights"))
    assert found.values["ellipse_area_mean"] == pytest.approx((np.pi * widths * heights / 4).mean())
    assert found.values["ellipse_area_median"] == pytest.approx(np.median(np.pi * widths * heights / 4))


def test_a_class_of_few_images_has_no_area_and_the_others_keep_theirs() -> None:
    z, labels = clusters(90, 6, 3, 17)
    few = labels.copy()
    few[np.flatnonzero(labels == 1)[2:]] = 0
    found = measure(z, few, triplets_of(few), 3).per_class
    areas = [found[name] for name in ("ellipse_area", "normalised_area", "legacy_area")]
    assert all(np.isfinite(of).tolist() == [True, False, True] for of in areas)


# -- learners ------------------------------------------------------------------------------------


def test_learners_on_clusters_and_on_noise() -> None:
    z, labels = clusters(200, 8, 4, 18, apart=8)
    assert clustering(rows(z, labels))["nmi"] == pytest.approx(1)
    assert linear_probe(rows(z, labels)) == 1
    random = np.random.default_rng(0)
    noise, any_class = random.normal(size=(600, 4)), random.integers(0, 4, 600)
    found = clustering(rows(noise, any_class))
    assert abs(found["ami"]) < 0.02 < 0.1  # adjusted for chance
    assert linear_probe(rows(noise, any_class)) == pytest.approx(0.25, abs=0.06)


def test_mutual_information_is_scikit_learns_of_the_known_clusters() -> None:
    centres = np.eye(3, dtype=np.float32)
    where = np.repeat([0, 1, 2], 20)
    labels = where.copy()
    labels[:5] = 1  # five images lie with another class
    z = centres[where] + np.random.default_rng(0).normal(scale=1e-3, size=(60, 3)).astype(np.float32)
    expected = normalized_mutual_info_score(labels, where)
    assert clustering(rows(z, labels))["nmi"] == pytest.approx(expected)


# -- everything ----------------------------------------------------------------------------------


def numbers(values: dict) -> dict:
    return {name: value for name, value in values.items() if not isinstance(value, Undefined)}


def test_every_name_is_measured_and_has_a_direction() -> None:
    z, labels = clusters(120, 6, 3, 19)
    found = measure(z, labels, triplets_of(labels), 3).values
    assert list(found)[: len(METRICS)] == list(METRICS)
    assert {name for name in found if direction(name) is None} == {
        n for n in found if "area" in n or "threshold" in n or n.endswith(("_std", "_error"))
    }
    assert [direction(n) for n in ("auc", "eer", "triplet", "recall_at_1")] == ["max", "min", "min", "max"]
    assert set(found) - set(numbers(found)) == {"tar_at_far_1e-3", "threshold_at_far_1e-3"}
    assert all(type(value) is float and math.isfinite(value) for value in numbers(found).values())


@pytest.mark.parametrize("ties", [False, True])
def test_neither_the_order_of_rows_nor_their_length_matters(ties: bool) -> None:
    z, labels = tied(60, 3, 20) if ties else clusters(60, 6, 3, 20)
    triplets = triplets_of(labels)
    found = measure(z, labels, triplets, 3).values
    order = np.random.default_rng(1).permutation(60)
    lengths = np.array([1, 2, 8], dtype=np.float32)[np.random.default_rng(2).integers(0, 3, (60, 1))]
    moved = measure(z[order], labels[order], np.argsort(order)[triplets], 3).values
    assert moved == pytest.approx(found, abs=1e-9)
    scaled = measure(z * lengths, labels, triplets, 3).values
    of_lengths = {name for name in found if name == "accuracy" or "area" in name}
    for name in set(numbers(found)) - of_lengths:
        assert scaled[name] == pytest.approx(found[name], abs=1e-6), name


@given(entries=st.integers(1, 3000), seed=st.integers(0, 99), ties=st.booleans())
@settings(deadline=None, max_examples=12)
def test_the_size_of_the_blocks_changes_nothing(entries: int, seed: int, ties: bool) -> None:
    z, labels = tied(45, 4, seed) if ties else clusters(45, 6, 4, seed)
    prepared = rows(z, labels)
    search = all_against_all(prepared)

    def swept(entries: int) -> dict:
        found = [vars(block) for block in ranked(search, lambda some: 20, entries)]
        first = np.concatenate([block["first"].numpy() for block in found])
        consumers = [PairCounts(prepared), Spread(prepared, rank(search).nearest)]
        for block in every_pair(prepared.unit, entries):
            for one in consumers:
                one.add(block)
        return {"first": first.tolist(), **{k: v for one in consumers for k, v in one.values().items()}}

    ours, theirs = swept(entries), swept(1 << 22)
    assert ours.pop("first") == theirs.pop("first")
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_two_opposite_points() -> None:
    z = np.array([[1.0, 0]] * 6 + [[-1.0, 0]] * 6, dtype=np.float32)
    labels = np.repeat([0, 1], 6)
    found = measure(z, labels, triplets_of(labels), 2).values
    for name in (
        "auc",
        "pairs_auc",
        "recall_at_1",
        "map_at_r",
        "r_precision",
        "mrr",
        "knn_5",
        "linear_probe",
        "nmi",
        "ami",
    ):
        assert found[name] == pytest.approx(1), name
    assert found["eer"] == found["pairs_eer"] == found["intra_distance"] == found["alignment"] == 0
    assert found["inter_distance"] == found["separation"] == 2
    assert found["effective_rank"] == pytest.approx(1)
    assert found["uniformity"] == pytest.approx(math.log((30 * 2 + 36 * 2 * math.exp(-8)) / 132), abs=1e-6)
    assert isinstance(found["entropy"], Undefined)


def test_a_collapsed_embedding_finds_nothing_and_says_what_is_undefined() -> None:
    labels = np.arange(30) % 3
    found = measure(np.ones((30, 4), dtype=np.float32), labels, triplets_of(labels), 3).values
    assert found["auc"] == found["pairs_auc"] == found["eer"] == found["pairs_eer"] == 0.5
    assert found["recall_at_1"] == found["recall_at_10"] == found["map_at_r"] == found["knn_1"] == 0
    assert found["mrr"] == pytest.approx(1 / 21)  # after the 20 images of the other classes
    assert found["separation"] == pytest.approx(0, abs=1e-12)
    assert found["uniformity"] == pytest.approx(0, abs=1e-9)
    assert found["effective_rank"] == pytest.approx(1)
    reasons = {name: value.reason for name, value in found.items() if isinstance(value, Undefined)}
    assert "same" in reasons["participation_ratio"]
    assert "same" in reasons["ellipse_area_mean"]
    assert "lie on another" in reasons["entropy"]
    assert "fewer different" in reasons["nmi"]


@pytest.mark.parametrize(
    ("labels", "are_undefined", "are_not"),
    [
        (
            [0] * 30,
            {"pairs_auc", "pairs_eer", "inter_distance", "separation", "nmi", "linear_probe", "auc"},
            "alignment",
        ),
        (
            range(30),
            {"pairs_auc", "recall_at_1", "knn_1", "map_at_r", "intra_distance", "alignment", "ami"},
            "uniformity",
        ),
        ([0] * 28 + [1, 1], {"linear_probe"}, "recall_at_1"),
        ([0] * 15 + [2] * 15, {"tar_at_far_1e-2"}, "linear_probe"),
    ],
    ids=["one class", "one image a class", "a class of two", "an absent class"],
)
def test_what_is_undefined_is_named_with_its_reason(labels, are_undefined: set[str], are_not: str) -> None:
    labels = np.array(labels)
    z = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    found = measure(z, labels, triplets_of(labels), max(3, labels.max() + 1)).values
    reasons = {name: value.reason for name, value in found.items() if isinstance(value, Undefined)}
    assert are_undefined <= set(reasons)
    assert all(len(reason) > 10 for reason in reasons.values())
    assert isinstance(found[are_not], float)
    assert all(math.isfinite(value) for value in numbers(found).values())


def test_fewer_images_than_k() -> None:
    z, labels = clusters(8, 4, 2, 21)
    found = retrieval(z, labels)
    assert found["recall_at_10"] == Undefined("it needs 11 images, found 8")
    assert found["knn_20"] == Undefined("it needs 21 images, found 8")
    assert isinstance(found["knn_5"], float)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_hardly_any_images(count: int) -> None:
    found = measure(np.eye(3, dtype=np.float32)[:count], np.arange(count), np.empty((0, 3), dtype=int), 3)
    assert set(METRICS) <= set(found.values)
    assert all(math.isfinite(value) for value in numbers(found.values).values())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({2: np.nan}, "1 of 6 embeddings are NaN or infinite (the first is row 2)"),
        ({1: 0.0, 4: 0.0}, "2 of 6 embeddings are zero, which has no direction (the first is row 1)"),
    ],
)
def test_embeddings_that_are_none(spoil: dict[int, float], said: str) -> None:
    z, labels = clusters(6, 4, 2, 22)
    for row, value in spoil.items():
        z[row] = value
    with pytest.raises(ValueError, match="embeddings are") as caught:
        retrieval(z, labels)
    assert str(caught.value) == said
    found = measure(z, labels, triplets_of(labels), 2)
    assert set(found.values.values()) == {Undefined(said)}
    assert set(METRICS) <= set(found.values)


def test_labels_that_do_not_match() -> None:
    z, labels = clusters(6, 4, 2, 23)
    with pytest.raises(ValueError, match="found 5 labels for 6 embeddings"):
        retrieval(z, labels[:5])
    with pytest.raises(ValueError, match=r"found shape \[6\]"):
        retrieval(z[:, 0], labels)
