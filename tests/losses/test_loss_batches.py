"""Losses on degenerate batches, at every precision, in blocks, and the size of what they hold."""

from __future__ import annotations

import pytest
import torch
from support.loss_cases import CASES, EACH, Tuples, rows, tuples_of
from torch.utils._python_dispatch import TorchDispatchMode

from siamese.losses import KoLeo, MagnetLoss, Objective

BATCHES = {
    "no positives": [0, 1, 2, 3, 4],
    "no negatives": [2, 2, 2, 2, 2],
    "alone and together": [0, 0, 0, 0, 1],
    "two": [0, 0, 1, 1],
}


def assert_finite(name: str, z: torch.Tensor, labels: list[int], tuples: Tuples) -> float:
    z = z.clone().requires_grad_()
    loss = CASES[name].loss(z, torch.tensor(labels), tuples)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    return loss.item()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(("name", "kind"), EACH)
def test_value_and_gradient_stay_finite(name: str, kind: str, labels: list[int], dtype: torch.dtype) -> None:
    tuples = tuples_of(kind, labels)
    spread = rows(len(labels), 3).to(dtype)
    assert_finite(name, spread, labels, tuples)
    assert_finite(name, spread * 1e3, labels, tuples)
    assert_finite(name, spread[:1].repeat(len(labels), 1), labels, tuples)  # all in one place
    assert_finite(name, torch.zeros_like(spread), labels, tuples)
    for pair in ([0, 1], [0, len(labels) - 1], [1, 2]):  # duplicates, of one class and of two
        double = spread.clone()
        double[pair] = double[pair[0]].clone()
        assert_finite(name, double, labels, tuples)


# With one class or without any two of a class, no loss has anything to say, but for what needs no pair of both kinds.
SAYS = {
    "no negatives": {"contrastive", "n_pair", "instance"},
    "no positives": {"contrastive", "n_pair", "instance", "magnet"},
}


@pytest.mark.parametrize(("batch", "says"), SAYS.items(), ids=SAYS)
@pytest.mark.parametrize("name", CASES)
def test_without_positives_or_negatives_there_is_no_loss(name: str, batch: str, says: set[str]) -> None:
    labels = BATCHES[batch]
    z = rows(len(labels), 3).requires_grad_()
    loss = CASES[name].loss(z, torch.tensor(labels), None)
    if name not in says:
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, z)[0].any()


@pytest.mark.parametrize(
    "name", ["contrastive", "triplet", "triplet_hard", "triplet_centroid", "lifted", "larl", "magnet"]
)
def test_satisfied_hinges_are_zero_with_zero_gradient(name: str) -> None:
    z = torch.tensor([[9.0, 0], [9, 0], [-9, 0], [-9, 0]], requires_grad=True)
    loss = CASES[name].loss(z, torch.tensor([0, 0, 1, 1]), None)
    assert loss.item() == 0
    assert not torch.autograd.grad(loss, z)[0].any()


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_float32_under_bf16_autocast(name: str, kind: str) -> None:
    labels = torch.arange(48) % 6
    z, tuples = torch.nn.functional.normalize(rows(48, 16)).bfloat16(), tuples_of(kind, labels.tolist())
    objective = Objective(name, CASES[name].loss, KoLeo(), 0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under, _ = objective(z, labels, tuples)
    wide, _ = objective(z.float(), labels, tuples)
    exact, _ = objective(z.double(), labels, tuples)
    assert under.dtype == torch.float32
    assert torch.equal(under, wide)
    assert wide.item() == pytest.approx(exact.item(), rel=2e-5)


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_in_blocks_is_at_once(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(23) % 5
    z, tuples = rows(23, 4).requires_grad_(), tuples_of(kind, labels.tolist(), count=11)
    whole = CASES[name].loss(z, labels, tuples)
    monkeypatch.setattr("siamese.losses.pairwise.BLOCK_ENTRIES", 3 * 23)
    parts = CASES[name].loss(z, labels, tuples)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(parts, z), torch.autograd.grad(whole, z))


class Largest(TorchDispatchMode):
    """The most entries that any tensor had that was made in this mode."""

    entries = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.entries = max(self.entries, tensor.numel())
        return made


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_larger_than_the_matrix_of_all_pairs(name: str) -> None:
    labels = torch.arange(64) % 2
    z = rows(64, 4).requires_grad_()
    with Largest() as largest:
        CASES[name].loss(z, labels, None).backward()
    assert 0 < largest.entries <= 64 * 65  # sums of 0 to 64 negatives have one more


def test_magnet_divides_by_the_variance_itself() -> None:
    # Two clusters on a line at 0 ± 1 and 4 ± 1: σ² = 4 / 3, so that the first embedding, at −1, is
    # 1 from its own mean and 25 from the other: max(0, 3/8 + α − 75/8), and so on.
    z = torch.tensor([[-1.0], [1], [3], [5]], dtype=torch.float64)
    expected = (0 + (3 / 8 + 8 - 27 / 8)) / 2
    assert MagnetLoss(8.0)(z, torch.tensor([0, 0, 1, 1]), None).item() == pytest.approx(expected)
