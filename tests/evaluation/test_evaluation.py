"""Verification against scikit-learn and against counting."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.metrics.pairwise import cosine_similarity, paired_euclidean_distances

from siamese.evaluation.verification import Triplets, mean_cosine, verification


def example(n: int, t: int, seed: int, levels: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    z = random.integers(-levels, levels + 1, (n, 3)) + 0.5 if levels else random.normal(size=(n, 8))
    triplets = np.array([random.choice(n, 3, replace=False) for _ in range(t)])
    return torch.from_numpy(z.astype(np.float32)), torch.from_numpy(triplets)


@given(n=st.integers(3, 20), t=st.integers(1, 40), seed=st.integers(0, 99), levels=st.integers(0, 2))
@settings(deadline=None)
def test_verification_is_what_scikit_learn_says(n: int, t: int, seed: int, levels: int) -> None:
    z, triplets = example(n, t, seed, levels)
    measured = verification(z, triplets)
    unit = z.double().numpy() / np.linalg.norm(z.double().numpy(), axis=1, keepdims=True)
    a, p, q = (unit[triplets[:, i].numpy()] for i in range(3))
    positive = np.array([cosine_similarity(x[None], y[None])[0, 0] for x, y in zip(a, p, strict=True)])
    negative = np.array([cosine_similarity(x[None], y[None])[0, 0] for x, y in zip(a, q, strict=True)])
    assert measured["cos_positive"] == pytest.approx(positive.mean(), abs=1e-9)
    assert measured["cos_negative"] == pytest.approx(negative.mean(), abs=1e-9)
    assert measured["euclid_positive"] == pytest.approx(paired_euclidean_distances(a, p).mean(), abs=1e-6)
    assert measured["euclid_negative"] == pytest.approx(paired_euclidean_distances(a, q).mean(), abs=1e-6)
    if not levels:  # ties are counted by hand below
        scores, truth = np.concatenate([positive, negative]), np.repeat([1, 0], t)
        assert measured["auc"] == pytest.approx(roc_auc_score(truth, scores.astype(np.float32)), abs=1e-6)
        assert measured["good_triplets"] == pytest.approx((positive > negative).mean(), abs=1e-9)


def test_auc_is_the_share_of_ordered_pairs_with_ties_as_half() -> None:
    axes = torch.tensor([[1.0, 0], [1, 0], [0, 1], [-1, 0]])
    triplets = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 2, 1], [2, 0, 3]])
    positive, negative = [1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 1.0, 0.0]
    wins = [1.0 if p > n else 0.5 if p == n else 0.0 for p, n in itertools.product(positive, negative)]
    measured = verification(axes, triplets)
    assert measured["auc"] == pytest.approx(np.mean(wins), abs=1e-6)
    assert measured["good_triplets"] == pytest.approx(2 / 4)


def test_roc_is_scikit_learns() -> None:
    z, triplets = example(30, 60, 1)
    curve = Triplets.of(z.numpy(), triplets.numpy()).curve
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    a, p, q = unit[triplets].unbind(1)
    distances = torch.cat([(a - p).norm(dim=1), (a - q).norm(dim=1)]).numpy()
    x, y, thresholds = roc_curve(np.repeat([1, 0], 60), -distances.astype(np.float32), drop_intermediate=False)
    assert np.allclose(curve.fpr, x)
    assert np.allclose(curve.tpr, y)
    assert np.allclose(curve.thresholds[1:], -thresholds[1:])


def test_a_perfect_and_a_collapsed_embedding() -> None:
    perfect = torch.tensor([[1.0, 0], [1, 0], [-1, 0]])
    measured = verification(perfect, torch.tensor([[0, 1, 2], [1, 0, 2]]))
    assert measured["auc"] == measured["good_triplets"] == measured["cos_positive"] == 1
    collapsed = verification(torch.ones(3, 4), torch.tensor([[0, 1, 2]]))
    assert collapsed["auc"] == 0.5
    assert collapsed["good_triplets"] == 0
    assert mean_cosine(torch.ones(5, 4)) == pytest.approx(1)


def test_row_order_and_scale_change_nothing() -> None:
    z, triplets = example(20, 30, 2)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    moved = verification(z[order] * 7, torch.argsort(order)[triplets][torch.randperm(30)])
    measured = verification(z, triplets)
    for name, value in measured.items():
        assert moved[name] == pytest.approx(value, abs=1e-6), name


def test_mean_cosine_counts_every_pair() -> None:
    z = torch.randn(15, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = cosine_similarity(z.numpy())
    assert mean_cosine(z) == pytest.approx(matrix[~np.eye(15, dtype=bool)].mean(), abs=1e-12)
