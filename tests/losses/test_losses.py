"""Losses against brute force, float64 and degenerate batches."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from siamese.losses import BatchAllTripletLoss, KoLeo, Objective, TripletLoss, koleo
from siamese.losses.koleo import EPSILON


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triplets(n: int, t: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    a, p, q = torch.randint(0, n, (3, t), generator=torch.Generator().manual_seed(seed))
    return a, p, q


@given(
    n=st.integers(2, 8), t=st.integers(1, 12), d=st.integers(1, 6), margin=st.floats(0.01, 2), seed=st.integers(0, 99)
)
@settings(deadline=None)
def test_triplet_is_its_formula(n: int, t: int, d: int, margin: float, seed: int) -> None:
    z, (a, p, q) = rows(n, d, seed), triplets(n, t, seed)
    total = 0.0
    for i, j, k in zip(a.tolist(), p.tolist(), q.tolist(), strict=True):
        same = float(z[i] @ z[j] / (z[i].norm() * z[j].norm()))
        other = float(z[i] @ z[k] / (z[i].norm() * z[k].norm()))
        total += max(0.0, (1 - same) - (1 - other) + margin)
    assert TripletLoss(margin)(z, None, (a, p, q)).item() == pytest.approx(total / t, abs=1e-12)


def test_triplet_gradient() -> None:
    z = rows(6, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: TripletLoss(0.7)(x, None, triplets(6, 8)), z)


def test_triplet_without_active_hinges_is_zero_with_zero_gradient() -> None:
    z = torch.tensor([[1.0, 0], [1, 0], [-1, 0]], requires_grad=True)
    loss = TripletLoss(0.4)(z, None, (torch.tensor([0]), torch.tensor([1]), torch.tensor([2])))
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros(3, 2))


def brute_batch_all(z: Tensor, labels: list[int], margin: float) -> float:
    unit = z / z.norm(dim=1, keepdim=True)
    hinges = [
        max(0.0, float(unit[a] @ unit[n] - unit[a] @ unit[p]) + margin)
        for a, p, n in itertools.permutations(range(len(z)), 3)
        if labels[a] == labels[p] != labels[n]
    ]
    return sum(hinges) / max(len(hinges), 1)


@given(labels=st.lists(st.integers(0, 3), min_size=2, max_size=9), margin=st.floats(0.01, 2), seed=st.integers(0, 99))
@settings(deadline=None)
def test_batch_all_is_its_formula(labels: list[int], margin: float, seed: int) -> None:
    z = rows(len(labels), 4, seed)
    loss = BatchAllTripletLoss(margin)(z, torch.tensor(labels), triplets(2, 1))
    assert loss.item() == pytest.approx(brute_batch_all(z, labels, margin), abs=1e-12)


def test_batch_all_in_blocks_gradient_and_permutation(monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = rows(9, 4).requires_grad_(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1])
    crit, none = BatchAllTripletLoss(0.5), triplets(2, 1)
    assert torch.autograd.gradcheck(lambda x: crit(x, labels, none), z)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    assert crit(z[order], labels[order], none).item() == pytest.approx(crit(z, labels, none).item(), abs=1e-12)
    whole = crit(z, labels, none).item()
    monkeypatch.setattr("siamese.losses.pairwise.BLOCK_ENTRIES", 2 * 9)
    assert crit(z, labels, none).item() == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_batch_all_without_triplets_or_with_duplicates_is_finite(labels: list[int]) -> None:
    z = torch.ones(3, 4, requires_grad=True)
    loss = BatchAllTripletLoss()(z, torch.tensor(labels), triplets(2, 1))
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def brute_koleo(z: Tensor, k: int) -> float:
    unit = z / z.norm(dim=1, keepdim=True)
    total = 0.0
    for i in range(len(z)):
        d = sorted(float((unit[i] - unit[j]).norm()) for j in range(len(z)) if j != i)
        total += sum(-math.log(x + EPSILON) for x in d[:k]) / k
    return total / len(z)


@pytest.mark.parametrize(
    ("z", "k", "expected"),
    [
        ([(1, 0), (0.6, 0.8), (0, 1)], 1, 0.342621),
        ([(1, 0), (0.6, 0.8), (0, 1)], 2, 0.074381),
        ([(1, 0), (0, 1), (-1, 0), (0, -1)], 1, -0.346574),
        ([(0, 1), (0, -1)], 1, -0.693147),
    ],
)
def test_koleo_reference_values(z: list[tuple[float, float]], k: int, expected: float) -> None:
    assert koleo(torch.tensor(z, dtype=torch.float64), k).item() == pytest.approx(expected, abs=1e-6)


@given(n=st.integers(2, 10), d=st.integers(1, 5), k=st.integers(1, 3), seed=st.integers(0, 99))
@settings(deadline=None)
def test_koleo_is_its_formula(n: int, d: int, k: int, seed: int) -> None:
    z = rows(n, d + 1, seed)
    k = min(k, n - 1)
    assert koleo(z, k).item() == pytest.approx(brute_koleo(z, k), abs=1e-9)


def test_koleo_in_blocks_is_koleo_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    z = rows(50, 8)
    whole = koleo(z)
    monkeypatch.setattr(importlib.import_module("siamese.losses.pairwise"), "BLOCK_ENTRIES", 7 * 50)
    assert torch.equal(koleo(z), whole)


def test_koleo_gradient_and_permutation() -> None:
    z = rows(7, 4).requires_grad_()
    assert torch.autograd.gradcheck(koleo, z)
    assert torch.autograd.gradcheck(lambda x: koleo(x, 2), z)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    assert koleo(z[order]).item() == pytest.approx(koleo(z).item(), abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_koleo_is_finite_on_duplicates_at_every_precision(dtype: torch.dtype, scale: float) -> None:
    z = rows(6, 16).to(dtype)
    z = torch.cat([z, z * scale, z[:1]]).requires_grad_()
    loss = koleo(z)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(loss)
    assert loss.item() > 5  # duplicates are what it is there to punish
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_koleo_of_a_collapsed_batch_is_finite() -> None:
    z = torch.ones(8, 4, requires_grad=True)
    loss = koleo(z)
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-8), abs=1e-3)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_koleo_leaves_autocast() -> None:
    z = rows(6, 16).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = koleo(z)
    assert torch.equal(under, koleo(z))


def test_koleo_needs_two_rows() -> None:
    with pytest.raises(ValueError, match="at least 2 embeddings, found 1"):
        koleo(torch.ones(1, 3))
    with pytest.raises(ValueError, match="at least 3 embeddings, found 2"):
        koleo(torch.ones(2, 3), 2)


def test_koleo_over_roles() -> None:
    z = rows(12, 5)
    a, p, n = torch.arange(12).view(3, 4)
    assert torch.equal(KoLeo("all")(z, None, (a, p, n)), koleo(z))
    assert torch.equal(KoLeo("anchors")(z, None, (a, p, n)), koleo(z[:4]))
    each = torch.stack([koleo(z[index]) for index in (a, p, n)]).mean()
    assert torch.equal(KoLeo("per_role")(z, None, (a, p, n)), each)
    repeated = a.repeat(2)  # an embedding in two tuples is one embedding, not its own neighbour
    assert torch.equal(KoLeo("anchors")(z, None, (repeated, p.repeat(2), n.repeat(2))), koleo(z[:4]))


def test_objective_adds_its_terms_by_name() -> None:
    z, index = rows(9, 4), torch.arange(9).view(3, 3).unbind(0)
    base = TripletLoss(0.4)
    total, terms = Objective("triplet", base, KoLeo(), 0.1)(z, None, index)
    assert list(terms) == ["triplet", "koleo"]
    assert total.item() == pytest.approx(base(z, None, index).item() + 0.1 * koleo(z).item(), abs=1e-12)
    plain, only = Objective("triplet", base, KoLeo(), 0.0)(z, None, index)
    assert list(only) == ["triplet"]
    assert torch.equal(plain, base(z, None, index))


def test_objective_computes_in_float32_under_autocast() -> None:
    z, index = rows(9, 64).bfloat16(), torch.arange(9).view(3, 3).unbind(0)
    objective = Objective("triplet", TripletLoss(), KoLeo(), 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = objective(z, None, index)
    expected, _ = objective(z.float(), None, index)
    assert total.dtype == torch.float32
    assert torch.equal(total, expected)


def test_batch_dependence_is_known() -> None:
    assert not Objective("triplet", TripletLoss(), KoLeo(), 0.0).batch_dependent
    assert Objective("triplet", TripletLoss(), KoLeo(), 0.1).batch_dependent
    # Without tuples, a loss over triplets looks for them in the batch.
    found = Objective("triplet", TripletLoss(), KoLeo(), 0.0, tuples_span_batch=True)
    assert found.batch_dependent
    assert found.base_depends
