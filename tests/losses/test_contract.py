"""What each loss says of itself is what it does when its batch is changed."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from pytorch_metric_learning import losses, miners, reducers, regularizers
from support.processes import ROOT
from torch import Tensor, nn

from siamese.commands.loss_table import describe
from siamese.config.validate import validate
from siamese.data.batches import Balanced, HardNegatives, Kind, Magnet, Pairs, Triplets, Views
from siamese.errors import ConfigError
from siamese.losses import ContrastiveLoss, KoLeo, Loss, Objective, References, Traits, TripletLoss, traits
from siamese.losses.make import Mined, make_loss

CLASSES, SIZE = 10, 8
NAMES = sorted(file.stem for file in (ROOT / "conf/loss").glob("*.yaml"))
KINDS: dict[str, Kind] = {
    kind.form: kind for kind in (Balanced(4), HardNegatives(), Magnet(2, 4), Pairs(), Triplets(), Views())
}
Tuples = tuple[Tensor, ...] | None

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # the library's


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


@functools.cache
def config(name: str) -> Any:
    return validate(compose("train", ["name=contract", f"loss={name}"]))


@functools.cache
def row(name: str) -> dict[str, Any]:
    return describe(name)


def forms() -> list[tuple[str, str]]:
    """Every option of conf/loss with each kind of batches that it lists."""
    listed = {name: re.search(r"^batches: \[(.*?)\]", text(name), re.MULTILINE) for name in NAMES}
    found = {name: m or re.search(r"^batches: \[(.*?)\]", text("triplet"), re.MULTILINE) for name, m in listed.items()}
    return [(name, form) for name, m in found.items() if m for form in m[1].split(", ")]


def text(name: str) -> str:
    return (ROOT / f"conf/loss/{name}.yaml").read_text()


FORMS = forms()
DRAWN = [(name, form) for name, form in FORMS if not KINDS[form].finds_tuples]


def objective(name: str, form: str) -> Objective:
    """What is minimised, always with the same weights of its own."""
    torch.manual_seed(0)
    loss, asked = make_loss(config(name).loss, CLASSES, SIZE), config(name).objective
    koleo = KoLeo(asked.koleo_over, asked.koleo_neighbours)
    return Objective("loss", loss, koleo, asked.koleo_weight, KINDS[form].tuples_span_batch)


LABELS = {  # of two micro-batches, [K, B]
    "triplets": ([[0, 1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 0]], [[4, 5, 0, 1], [4, 5, 0, 1], [5, 0, 4, 2]]),
    "pairs": ([[0, 1, 2, 3], [0, 1, 3, 2]], [[4, 5, 0, 1], [4, 5, 1, 2]]),
    "balanced": ([[0, 1, 2]] * 4, [[3, 4, 5]] * 4),
    "hard_negatives": ([[0, 1, 2], [0, 1, 2], [1, 2, 3], [2, 0, 0]], [[3, 4, 5], [3, 4, 5], [4, 5, 0], [1, 3, 3]]),
    "views": ([[0, 1, 2, 3]] * 2, [[4, 5, 6, 7]] * 2),
    "magnet": ([[0, 1, 0]] * 4, [[2, 3, 2]] * 4),
}


def batch(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(labels.numel(), SIZE, generator=generator) + 1  # near enough for some hinges to be active
    return nn.functional.normalize(z, dim=1), labels.flatten()


def micro_batches(form: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    first, second = (torch.tensor(labels) for labels in LABELS[form])
    return batch(first, 1), batch(second, 2)


def value(of: Objective, z: Tensor, labels: Tensor, tuples: Tuples) -> float:
    """Of a copy that has seen nothing before."""
    with torch.no_grad():
        return copy.deepcopy(of)(z, labels, tuples)[0].item()


def other(tuples: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Other positives and other negatives of the same anchors; of clusters, others."""
    if len(tuples) == 1:
        return (tuples[0].sort().values,)
    anchors = (0,) if len(tuples) == 3 else (0, 2)
    return tuple(index if place in anchors else index.roll(1) for place, index in enumerate(tuples))


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_it_depends_on_the_batch_where_the_table_says_so(name: str, form: str) -> None:
    """The value of two micro-batches as one is the mean of both, unless it depends on the batch."""
    of, layout, (a, b) = objective(name, form), KINDS[form].layout, micro_batches(form)
    both = tuple(layout.join(parts) for parts in zip(a, b, strict=True))
    whole, *apart = (value(of, z, labels, layout.tuples_of(labels)) for z, labels in (both, a, b))
    said = form in row(name)["depends_on_batch"]
    assert said is of.batch_dependent
    assert (whole != pytest.approx(sum(apart) / 2, rel=1e-4, abs=1e-7)) is said


@pytest.mark.parametrize(("name", "form"), DRAWN)
def test_rows_in_no_tuple_count_where_labels_alone_are_used(name: str, form: str) -> None:
    of, ((z, labels), (more, their_labels)) = objective(name, form), micro_batches(form)
    if form == "magnet":
        pytest.skip("every row of a magnet batch is in a cluster")
    tuples = KINDS[form].layout.tuples_of(labels)
    plain, beside = (
        value(of, z, labels, tuples),
        value(of, torch.cat([z, more]), torch.cat([labels, their_labels]), tuples),
    )
    changed = plain != pytest.approx(beside, rel=1e-4, abs=1e-7)
    if row(name)["uses"] != "the drawn tuples":
        assert changed
    elif form not in row(name)["depends_on_batch"]:
        assert not changed


@pytest.mark.parametrize(("name", "form"), DRAWN)
def test_the_drawn_tuples_matter_where_the_table_says_so(name: str, form: str) -> None:
    of, ((z, labels), _) = objective(name, form), micro_batches(form)
    tuples = KINDS[form].layout.tuples_of(labels)
    assert tuples is not None
    changed = value(of, z, labels, tuples) != pytest.approx(value(of, z, labels, other(tuples)), rel=1e-4, abs=1e-7)
    assert changed is (row(name)["uses"] == "the drawn tuples")


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_it_remembers_where_the_table_says_so(name: str, form: str) -> None:
    of, layout, (a, b) = objective(name, form), KINDS[form].layout, micro_batches(form)
    first = value(of, *a, layout.tuples_of(a[1]))
    of(*b, layout.tuples_of(b[1]))
    changed = value(of, *a, layout.tuples_of(a[1])) != first
    assert changed is (row(name)["uses"] == "labels, and its queue")
    assert changed is traits(of.base).remembers


@pytest.mark.parametrize(("name", "form"), FORMS)
def test_references_reach_a_loss_that_can_take_them_and_would_change(name: str, form: str) -> None:
    of, ((z, labels), (more, their_labels)) = objective(name, form), micro_batches(form)
    of.koleo_weight = 0.0
    tuples = KINDS[form].layout.tuples_of(labels)
    takes = traits(of.base).takes_references(drawn=tuples is not None)
    gradients = []
    for references in (None, References(more, their_labels)):
        leaf = z.clone().requires_grad_()
        copy.deepcopy(of)(leaf, labels, tuples, references)[0].backward()
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-7) is not takes


# -- losses that are not ours ------------------------------------------------------------------


class Silent(nn.Module):
    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: Tuples) -> Tensor:
        return embeddings.sum()


class OfImages(Silent):
    batch_dependent = False
    uses_tuples = False


class Property(Silent):
    def __init__(self, own: bool) -> None:
        super().__init__()
        self.own = own

    @property
    def uses_tuples(self) -> bool:
        return not self.own


class Derived(Loss):
    remembers = True


def test_a_loss_that_says_nothing_is_taken_for_the_most_that_it_can_be() -> None:
    assert traits(Silent()) == Traits(True, True, False) == Traits()
    assert traits(Loss()) == Traits()
    assert traits(OfImages()) == (False, False, False)
    assert traits(Derived()) == (True, True, True)
    assert [traits(Property(own)).uses_tuples for own in (True, False)] == [False, True]


def test_what_follows() -> None:
    of_tuples, of_images, of_pairs, of_all = Traits(False), Traits(False, False), Traits(), Traits(True, False)
    assert [t.depends(drawn=True) for t in (of_tuples, of_images, of_pairs, of_all)] == [False, False, True, True]
    assert [t.depends(drawn=False) for t in (of_tuples, of_images, of_pairs, of_all)] == [True, False, True, True]
    takes = [t.takes_references(drawn=True) for t in (of_tuples, of_images, of_pairs, of_all)]
    assert takes == [False, False, False, True]
    takes = [t.takes_references(drawn=False) for t in (of_tuples, of_images, of_pairs, of_all)]
    assert takes == [True, False, True, True]
    assert not any(Traits(True, False, True).takes_references(drawn=drawn) for drawn in (True, False))


@pytest.mark.parametrize("name", ["batch_dependent", "uses_tuples", "remembers"])
def test_an_attribute_that_is_neither_true_nor_false_is_named(name: str) -> None:
    loss = Silent()
    setattr(loss, name, "no")
    with pytest.raises(ConfigError, match=rf"^Silent\.{name} is 'no'; expected True or False$"):
        traits(loss)


def test_a_subclass_of_the_librarys_may_say_otherwise() -> None:
    class Mine(losses.ContrastiveLoss):
        batch_dependent = False

    assert traits(losses.ContrastiveLoss()).batch_dependent  # averages over terms above zero
    assert traits(Mine()) == (False, True, False)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.ContrastiveLoss(reducer=reducers.MeanReducer()), (True, True, False)),
        (losses.ContrastiveLoss(reducer=reducers.SumReducer()), (True, True, False)),
        (losses.TripletMarginLoss(reducer=reducers.MeanReducer()), (False, True, False)),
        (losses.TripletMarginLoss(reducer=reducers.ThresholdReducer(low=0)), (True, True, False)),
        (losses.ArcFaceLoss(4, 8), (False, False, False)),
        (losses.ArcFaceLoss(4, 8, reducer=reducers.DivisorReducer()), (True, False, False)),
        (losses.SupConLoss(), (True, True, False)),
        (losses.CrossBatchMemory(losses.ContrastiveLoss(), 8), (True, True, True)),
        (losses.DynamicSoftMarginLoss(), (True, True, True)),
        (losses.SoftTripleLoss(4, 8, embedding_regularizer=regularizers.LpRegularizer()), (False, False, False)),
        (
            losses.SoftTripleLoss(
                4, 8, embedding_regularizer=regularizers.LpRegularizer(reducer=reducers.SumReducer())
            ),
            (True, False, False),
        ),
        (
            losses.SoftTripleLoss(4, 8, embedding_regularizer=regularizers.CenterInvariantRegularizer()),
            (True, False, False),
        ),
        (losses.MultipleLosses([OfImages(), OfImages()]), (False, False, False)),
        (losses.MultipleLosses([OfImages(), TripletLoss()]), (False, True, False)),
        (losses.MultipleLosses({"a": TripletLoss(), "b": Derived()}), (True, True, True)),
        (Mined(TripletLoss(), None), (True, False, False)),
        (Mined(OfImages(), None), (False, False, False)),
        (Mined(OfImages(), miners.BatchHardMiner()), (True, False, False)),
        (Mined(Derived(), None), (True, False, True)),
        (KoLeo("all"), (True, False, False)),
        (KoLeo("anchors"), (True, True, False)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_of_losses_and_what_holds_losses(loss: nn.Module, expected: tuple[bool, ...]) -> None:
    assert traits(loss) == expected


@pytest.mark.parametrize("regularizer", ["lp", "zero_mean", "center_invariant", "regular_face"])
def test_a_regulariser_of_embeddings_is_a_part_of_the_loss(regularizer: str) -> None:
    node = dict(config("proxy_nca").loss, embedding_regularizer=regularizer)
    torch.manual_seed(0)
    loss, (a, b) = make_loss(node, CLASSES, SIZE), micro_batches("triplets")
    with torch.no_grad():
        a, b = ((z * torch.linspace(1, 3, len(z))[:, None], labels) for z, labels in (a, b))
        whole = loss(torch.cat([a[0], 2 * b[0]]), torch.cat([a[1], b[1]]), None).item()
        halves = [loss(z, labels, None).item() for z, labels in (a, (2 * b[0], b[1]))]
    assert (whole != pytest.approx(sum(halves) / 2, rel=1e-5)) is traits(loss).batch_dependent


def test_drawn_triplets_only_weigh_images_and_weigh_them_alike() -> None:
    (z, labels), _ = micro_batches("triplets")
    torch.manual_seed(0)
    loss = make_loss(dict(config("arcface").loss, miner=None), CLASSES, SIZE)
    assert not traits(loss).uses_tuples
    drawn = KINDS["triplets"].layout.tuples_of(labels)
    assert loss(z, labels, drawn).item() == pytest.approx(loss(z, labels, None).item())


def test_the_librarys_contrastive_loss_is_no_mean_over_parts_of_other_mixtures() -> None:
    """Three pairs of one class and one of two are not the mean of their halves; for ours they are."""
    z = nn.functional.normalize(torch.randn(8, SIZE, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 0])
    first, second = torch.arange(8).view(4, 2).t()  # the pairs (0, 1), (2, 3), (4, 5) of one class, (6, 7) of two
    whole = (first[:3], second[:3], first[3:], second[3:])
    halves = [(first[:2], second[:2], first[:0], second[:0]), (first[2:3], second[2:3], first[3:], second[3:])]
    for loss, is_mean in (
        (losses.ContrastiveLoss(reducer=reducers.MeanReducer()), False),
        (ContrastiveLoss(2.0), True),
    ):
        mean = sum(loss(z, labels, half) for half in halves) / 2
        assert torch.allclose(loss(z, labels, whole), torch.as_tensor(mean)) == is_mean
        assert traits(loss).batch_dependent != is_mean
