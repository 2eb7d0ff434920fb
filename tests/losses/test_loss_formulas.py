"""Losses against their formulas, their gradients and other people's implementations."""

from __future__ import annotations

import inspect

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as pml
from pytorch_metric_learning.distances import DotProductSimilarity, LpDistance
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import MeanReducer
from support.loss_cases import CASES, EACH, rows, tuples_of
from support.processes import ROOT
from torch import Tensor, nn

from siamese import losses
from siamese.errors import ConfigError
from siamese.losses import (
    BatchAllTripletLoss,
    ConstellationLoss,
    ContrastiveLoss,
    InstanceLoss,
    LiftedLoss,
    NPairLoss,
    TripletHardLoss,
    TripletLoss,
    TripletSoftLoss,
)
from siamese.losses.make import try_out

EUCLIDEAN = {"normalize_embeddings": False, "p": 2}
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 1, 3])


@pytest.mark.parametrize(("name", "kind"), EACH)
@given(labels=st.lists(st.integers(0, 3), min_size=4, max_size=8), d=st.integers(2, 4), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_a_loss_is_its_formula(name: str, kind: str, labels: list[int], d: int, seed: int) -> None:
    loss, formula, _ = CASES[name]
    z, tuples = rows(len(labels), d, seed), tuples_of(kind, labels, seed)
    expected = formula(z, labels, tuples)
    # logsumexp reaches 1e-9 of sums that it cuts off
    assert loss(z, torch.tensor(labels), tuples).item() == pytest.approx(expected, rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_the_gradient_is_that_of_the_value(name: str, kind: str) -> None:
    z = rows(10, 3, seed=1).requires_grad_()
    tuples = tuples_of(kind, LABELS.tolist())
    assert CASES[name].loss(z, LABELS, tuples).item() > 0
    assert torch.autograd.gradcheck(lambda x: CASES[name].loss(x, LABELS, tuples), z)


@pytest.mark.parametrize(("name", "kind"), EACH)
def test_the_order_of_the_batch_changes_nothing(name: str, kind: str) -> None:
    z, tuples = rows(10, 3).requires_grad_(), tuples_of(kind, LABELS.tolist())
    order = torch.randperm(10, generator=torch.Generator().manual_seed(2))
    place = order.argsort()
    if kind == "clusters":
        moved = tuple(clusters[order] for clusters in tuples)
    else:
        moved = None if tuples is None else tuple(place[index] for index in tuples)
    loss = CASES[name].loss
    value, again = loss(z, LABELS, tuples), loss(z[order], LABELS[order], moved)
    assert again.item() == pytest.approx(value.item(), rel=1e-12)
    one, other = (torch.autograd.grad(v, z)[0] for v in (value, again))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_instances_are_told_by_their_ids_alone() -> None:
    z, ids = rows(8, 3), torch.tensor([5, 9, 5, 7, 9, 7, 2, 2])
    places = torch.tensor([[0, 2], [1, 4], [3, 5], [6, 7]])
    views = places.t()
    both = torch.cat([places, places.flip(1)]).t()
    value = InstanceLoss()(z, ids, None)
    assert InstanceLoss()(z, ids % 3, tuple(views)).item() == pytest.approx(value.item())
    assert InstanceLoss()(z, ids % 3, (*both, *both)).item() == pytest.approx(value.item())


def test_constellation_with_all_negatives_is_n_pair() -> None:
    z = rows(10, 3)
    for enough in (8, 100):
        value = ConstellationLoss(enough)(z, LABELS, None).item()
        assert value == pytest.approx(NPairLoss(0.0)(z, LABELS, None).item())


def test_more_negatives_than_a_micro_batch_has_are_refused() -> None:
    node = {"_target_": "siamese.losses.ConstellationLoss", "negatives": 46}

    def labels_alone(labels: Tensor) -> tuple[Tensor, None]:
        return torch.arange(len(labels)), None

    try_out(node, labels_alone, 48, 16)
    with pytest.raises(ConfigError, match=r"^loss.negatives=47: expected at most 46, .* 48 images of a micro-batch$"):
        try_out({**node, "negatives": 47}, labels_alone, 48, 16)


@pytest.mark.parametrize("loss", [TripletLoss(), TripletHardLoss(), TripletSoftLoss(), ContrastiveLoss()])
def test_tuples_of_another_kind_are_refused(loss: nn.Module) -> None:
    with pytest.raises(ValueError, match=rf"{type(loss).__name__} takes .* found a tuple of 1"):
        loss(rows(10, 3), LABELS, (LABELS,))


def agree(ours: nn.Module, theirs: nn.Module, labels: Tensor, tuples: tuple[Tensor, ...] | None = None) -> None:
    """One value and one gradient."""
    z = rows(len(labels), 5).requires_grad_()
    values = ours(z, labels, None), theirs(z, labels, tuples)
    gradients = [torch.autograd.grad(value, z)[0] for value in values]
    assert values[0].item() > 0
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_triplets_agree_with_pytorch_metric_learning() -> None:
    squared = LpDistance(**EUCLIDEAN, power=2)
    mean = MeanReducer()
    hardest = BatchHardMiner(distance=squared)(rows(10, 5), LABELS)
    for ours, smooth, margin in ((TripletHardLoss(1.0), False, 1.0), (TripletSoftLoss(0.5), True, 0.5)):
        theirs = pml.TripletMarginLoss(margin, distance=squared, smooth_loss=smooth, reducer=mean)
        agree(ours, theirs, LABELS, hardest)
        every = tuples_of("triplets", LABELS.tolist(), count=20)
        z = rows(10, 5)
        assert ours(z, LABELS, every).item() == pytest.approx(theirs(z, LABELS, every).item(), rel=1e-5)
    cosine = LpDistance(normalize_embeddings=True, p=2, power=2)  # twice 1 − cos
    theirs = pml.TripletMarginLoss(0.8, distance=cosine, reducer=mean)
    for ours in (BatchAllTripletLoss(0.4), TripletLoss(0.4)):
        agree(lambda *a, ours=ours: 2 * ours(*a), theirs, LABELS)


def test_lifted_agrees_with_pytorch_metric_learning() -> None:
    # Theirs counts a pair from its first end alone, so it is equal where both ends have the same distances: not here,
    # but on a pair at one place.
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    z = rows(3, 5).repeat_interleave(2, 0)
    theirs = pml.LiftedStructureLoss(
        neg_margin=1.0, pos_margin=0.0, distance=LpDistance(**EUCLIDEAN), reducer=MeanReducer()
    )
    assert LiftedLoss(1.0)(z, labels, None).item() == pytest.approx(theirs(z, labels).item(), rel=1e-5)


def test_many_negatives_agree_with_pytorch_metric_learning() -> None:
    dot = DotProductSimilarity(normalize_embeddings=False)
    agree(NPairLoss(0.0), pml.NTXentLoss(temperature=1.0, distance=dot), LABELS)
    agree(InstanceLoss(8.0), pml.NTXentLoss(temperature=1 / 8), LABELS)
    z, labels = rows(8, 5), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    a = torch.arange(0, 8, 2)
    theirs = pml.NPairsLoss(distance=dot)(z, labels, (a, a + 1, a, (a + 2) % 8))
    assert NPairLoss(0.0)(z, labels, (a, a + 1, (a + 2) % 8)).item() == pytest.approx(theirs.item(), rel=1e-5)


WRITTEN = {path.stem: path.read_text() for path in sorted((ROOT / "conf/loss").glob("*.yaml"))}
OURS = [
    name
    for name, text in WRITTEN.items()
    if "_target_: siamese.losses.library." not in text
    and "_target_: siamese.losses." in text
    and "defaults:" not in text
]


@pytest.mark.parametrize("name", OURS)
def test_the_configuration_writes_every_option_out(name: str) -> None:
    written = yaml.safe_load(WRITTEN[name])
    signature = inspect.signature(getattr(losses, written["_target_"].removeprefix("siamese.losses.")))
    optional = (of for of in signature.parameters.values() if of.default is not of.empty)  # others are supplied
    options = {of.name: of.default for of in optional}
    assert {key: written[key] for key in options} == options
    assert set(written) == {*options, "_target_", "batches"}
    assert written["batches"]
    assert set(written["batches"]) <= {"triplets", "pairs", "balanced", "magnet", "views", "hard_negatives"}
