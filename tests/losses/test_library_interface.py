"""Our subclasses of pytorch-metric-learning's classes can stand wherever the library's own can."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from pytorch_metric_learning import losses, miners, reducers
from torch import Tensor

from siamese.losses import library

SIZE = 6
OURS = [
    library.MeanReducer,
    library.TupletMarginLoss,
    library.SmoothAPLoss,
    library.VICRegLoss,
    library.CrossBatchMemory,
]


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(ours: type) -> Any:
    return ours.__mro__[1]


@pytest.mark.parametrize("ours", OURS)
def test_every_argument_of_the_librarys_is_taken_under_its_name(ours: Any) -> None:
    for method in ("__init__", "forward"):
        takes, needed = (inspect.signature(getattr(cls, method)).parameters for cls in (ours, theirs(ours)))
        assert [*needed] == [*takes]
        for name, parameter in needed.items():
            assert takes[name].kind is parameter.kind
            assert takes[name].default == parameter.default


@pytest.mark.parametrize("ours", OURS)
def test_its_name_is_the_librarys(ours: Any) -> None:
    """The library's wrappers tell the losses that they can hold by their name."""
    assert ours.__name__ == theirs(ours).__name__


# -- the mean ----------------------------------------------------------------------------------


def test_the_mean_of_terms_is_the_librarys_and_of_none_is_zero() -> None:
    z, labels, terms = rows(4).requires_grad_(), torch.tensor([0, 0, 1, 1]), rows(4)[:, 0]
    part = {"losses": terms, "indices": torch.arange(4), "reduction_type": "element"}
    assert library.MeanReducer()({"loss": part}, z, labels) == reducers.MeanReducer()({"loss": part}, z, labels)
    none = {"losses": terms[:0], "indices": torch.arange(0), "reduction_type": "element"}
    value = library.MeanReducer()({"loss": none}, z, labels)
    value.backward()
    assert value == 0
    assert torch.equal(z.grad, torch.zeros_like(z))  # type: ignore[arg-type]
    counted = library.MeanReducer(collect_stats=True)
    counted({"loss": part}, z, labels)
    assert counted.losses_size == 4


def test_the_mean_serves_inside_other_reducers() -> None:
    z, labels = rows(6), torch.tensor([0, 1, 2, 0, 1, 2])
    for inner in (reducers.PerAnchorReducer, reducers.MultipleReducers):
        made = [
            inner(reducer=mean()) if inner is reducers.PerAnchorReducer else inner({"loss": mean()})
            for mean in (library.MeanReducer, reducers.MeanReducer)
        ]
        ours, own = (losses.NTXentLoss(reducer=reducer)(z, labels) for reducer in made)
        assert ours == own != 0


# -- tuplets -----------------------------------------------------------------------------------


def test_tuplets_take_references_and_tuples_without_labels() -> None:
    z, more = rows(6), rows(6, 1)
    labels, their_labels = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 0, 1, 1, 2, 2])
    ours, own = library.TupletMarginLoss(margin=8.0, scale=10.0), losses.TupletMarginLoss(margin=8.0, scale=10.0)
    a, p, n = torch.arange(6).view(3, 2)
    for given in (
        {"labels": labels, "ref_emb": more, "ref_labels": their_labels},
        {"indices_tuple": (a, p, n)},
        {"indices_tuple": (a, p, n), "ref_emb": more},
    ):
        assert ours(z, **given).item() == pytest.approx(own(z, **given).item(), rel=1e-12)
        assert ours(z, **given) != 0
    for loss in (ours, own):
        with pytest.raises(ValueError, match="labels"):
            loss(z)
    assert losses.SelfSupervisedLoss(ours)(z, more) == losses.SelfSupervisedLoss(own)(z, more)


# -- average precision -------------------------------------------------------------------------


def test_smooth_ap_refuses_what_the_librarys_refuses() -> None:
    z, labels = rows(4), torch.tensor([0, 0, 1, 1])
    for loss in (library.SmoothAPLoss(), losses.SmoothAPLoss()):
        with pytest.raises(ValueError, match="labels"):
            loss(z)
        with pytest.raises(ValueError, match="ref_emb is not supported"):
            loss(z, labels, ref_emb=rows(4, 1), ref_labels=labels)


# -- two views ---------------------------------------------------------------------------------


def test_vicreg_of_two_views_is_the_librarys() -> None:
    one, two = rows(5), rows(5, 1)
    ours, own = library.VICRegLoss(3.0, 2.0, 0.5), losses.VICRegLoss(3.0, 2.0, 0.5)
    assert ours(one, ref_emb=two) == own(one, ref_emb=two) != 0
    tied = (torch.arange(5), torch.arange(5, 10), torch.arange(5))
    assert ours(torch.cat([one, two]), None, tied) == own(one, ref_emb=two)
    assert ours(one[:1], ref_emb=two[:1]) == 0  # the library's is not finite
    for given in (
        {"indices_tuple": tied, "ref_emb": two},
        {"labels": torch.zeros(5), "ref_emb": two},
        {"ref_emb": two, "ref_labels": torch.zeros(5)},
    ):
        for loss in (ours, own):
            with pytest.raises(ValueError, match="not supported"):
                loss(one, **given)
    with pytest.raises(ValueError, match="needs two views"):
        ours(one)


# -- memory ------------------------------------------------------------------------------------


def memories(**given: Any) -> tuple[library.CrossBatchMemory, losses.CrossBatchMemory]:
    inner = losses.ContrastiveLoss()
    ours, own = (
        cls(inner, SIZE, memory_size=7, **given) for cls in (library.CrossBatchMemory, losses.CrossBatchMemory)
    )
    return ours, own


LABELS = torch.tensor([0, 1, 0, 1, 2])


@pytest.mark.parametrize("miner", [None, miners.PairMarginMiner()])
def test_a_memory_enqueues_the_rows_of_its_mask(miner: Any) -> None:
    ours, own = memories(miner=miner)
    mask = torch.tensor([True, True, False, False, False])
    for seed in range(4):  # the queue goes round
        z = rows(5, seed)
        assert ours(z, LABELS, enqueue_mask=mask) == own(z, LABELS, enqueue_mask=mask)
        assert torch.equal(ours.embedding_memory, own.embedding_memory)
        assert torch.equal(ours.label_memory, own.label_memory)
        assert (ours.queue_idx, ours.has_been_filled) == (own.queue_idx, own.has_been_filled)


@pytest.mark.parametrize("miner", [None, miners.PairMarginMiner()])
@pytest.mark.parametrize("masked", [False, True])
def test_in_evaluation_a_memory_is_the_librarys_with_nothing_in_its_queue(miner: Any, masked: bool) -> None:
    ours, own = memories(miner=miner)
    ours(rows(5, 9), LABELS)
    before = copy.deepcopy(ours.state_dict())
    ours.eval()
    mask = torch.tensor([True, True, False, False, False]) if masked else None
    value = ours(rows(5), LABELS, enqueue_mask=mask)
    assert value.item() == pytest.approx(own(rows(5), LABELS, enqueue_mask=mask).item(), rel=1e-12)
    assert value != 0
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_a_memory_takes_a_mask_or_tuples_but_not_both(training: bool) -> None:
    tuples, mask = (torch.tensor([0]), torch.tensor([2]), torch.tensor([1])), torch.ones(5, dtype=torch.bool)
    for loss in memories():
        with pytest.raises(ValueError, match="mutually exclusive"):
            loss.train(training)(rows(5), LABELS, tuples, enqueue_mask=mask)


def test_tuples_of_the_batch_say_nothing_about_the_queue() -> None:
    """Once the queue has moved on, the library looks up what a tuple names at its place in the batch in the queue."""
    ours, own = memories()
    alone, _ = memories()
    tuples = (torch.tensor([0]), torch.tensor([2]), torch.tensor([1]))  # of one class, and of two
    for seed in range(2):
        z = rows(5, seed)
        assert ours(z, LABELS, tuples) == alone(z, LABELS)
        own(z, LABELS, tuples)
    assert own.label_memory[2] != LABELS[0]  # a positive, to the library


def test_a_reset_memory_starts_again() -> None:
    ours, _ = memories()
    first = ours(rows(5), LABELS)
    ours(rows(5, 1), LABELS)
    ours.reset_queue()
    assert (ours.queue_idx, ours.has_been_filled) == (0, False)
    assert ours(rows(5), LABELS) == first


def test_a_memory_that_was_saved_goes_on() -> None:
    ours, _ = memories()
    for seed in range(3):
        ours(rows(5, seed).float(), LABELS)
    again, _ = memories()
    again.load_state_dict(ours.state_dict())
    assert (again.queue_idx, again.has_been_filled) == (ours.queue_idx, ours.has_been_filled) == (1, True)
    assert again(rows(5, 3).float(), LABELS) == ours(rows(5, 3).float(), LABELS)
