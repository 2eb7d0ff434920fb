"""Every kind of batches: what a micro-batch holds, in which order, and that a stop changes neither."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import toy_images
from support.processes import ROOT

from siamese.config.data import Data
from siamese.config.schema import Config
from siamese.config.validate import validate
from siamese.data import LabelledImages, SiameseData, load
from siamese.data.batch import Batch
from siamese.data.batches import Balanced, Kind, Magnet, Pairs, Triplets, Views
from siamese.data.batches.balanced import class_groups
from siamese.data.tuples import consecutive_pairs
from siamese.errors import ConfigError, Interrupted
from siamese.losses import ContrastiveLoss, KoLeo, Objective
from siamese.runs.directory import RunDirectory
from siamese.training.accumulation import statement
from siamese.training.build import build, make_kind, make_trainer, split_data
from siamese.training.check import Command, check
from siamese.training.checkpoints import Checkpoints
from siamese.training.signals import StopRequest

KINDS = {
    "triplets": (Triplets(), "resampled"),
    "pairs": (Pairs(), "article"),
    "pairs drawn once": (Pairs(), "fixed"),
    "pairs drawn anew": (Pairs(), "resampled"),
    "balanced": (Balanced(3), "article"),
    "views": (Views(), "article"),
}
TOY = Data(negatives_per_class=None, val_fraction=0.2)
SOURCE = toy_images([20, 23, 30, 21], size=6)


def toy(kind: str, batch_size: int, seed: int = 0) -> SiameseData:
    batches, formed = KINDS[kind]
    data = dataclasses.replace(TOY, batch_size=batch_size * batches.counted, triplets=formed)
    return SiameseData(SOURCE, data, seed, batches)


def items_of(batch: Batch, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The items [B, K] of a batch, and their draws [B, K, 3], from its rows."""
    images = {"triplets": 3, "pairs": 2, "views": 2}.get(kind.split()[0], 3)
    assert batch.draws is not None
    return batch.images.view(images, -1).t(), batch.draws.view(images, -1, 3).transpose(0, 1)


# -- order -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(size=st.integers(1, 4), epoch=st.integers(0, 3), seed=st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_order_and_draws_are_those_of_seed_and_epoch_however_an_epoch_is_cut(
    kind: str, size: int, epoch: int, seed: int
) -> None:
    whole = toy(kind, 2, seed).epoch(epoch)
    data = toy(kind, max(size, 2) if kind == "balanced" else size, seed)
    data.loader.epoch = lambda: epoch
    items, draws = (torch.cat(part) for part in zip(*(items_of(b, kind) for b in data.loader), strict=True))
    assert len(whole.items) - len(items) < (data.loader.batch_size if kind == "balanced" else 1)
    assert torch.equal(items, whole.items[: len(items)])
    assert torch.equal(draws, whole.draws[: len(items)])
    assert len(list(data.loader)) == len(data.loader)


@pytest.mark.parametrize("kind", KINDS)
def test_epochs_and_seeds_differ(kind: str) -> None:
    data = toy(kind, 2)
    first = data.epoch(0)
    for other in (data.epoch(1), toy(kind, 2, seed=1).epoch(0)):
        assert not torch.equal(first.items, other.items)
        assert not torch.equal(first.draws, other.draws)


@pytest.mark.parametrize("kind", KINDS)
@given(position=st.integers(0, 200), size=st.integers(2, 4))
@settings(max_examples=5, deadline=None)
def test_a_loader_goes_on_from_any_micro_batch(kind: str, position: int, size: int) -> None:
    whole = list(toy(kind, size).loader)
    position %= len(whole)
    loader = toy(kind, size).loader
    loader.position = lambda: position
    rest = list(loader)
    assert len(rest) == len(whole) - position
    for one, other in zip(rest, whole[position:], strict=True):
        for x, y in zip(one[:2] + (one.tuples or ()), other[:2] + (other.tuples or ()), strict=True):
            assert torch.equal(x, y)


def test_validation_and_test_triplets_are_the_same_for_every_kind() -> None:
    expected = toy("triplets", 2).triplets
    for kind in KINDS:
        for part, triplets in toy(kind, 3).triplets.items():
            assert np.array_equal(triplets, expected[part])


# -- what a micro-batch holds ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith("pairs")])
def test_pairs_are_of_one_class_or_of_two_and_all_are_told(kind: str) -> None:
    data = toy(kind, 7)
    train = set(data.parts["train"].tolist())
    for batch in data.loader:
        assert batch.tuples is not None
        a1, p, a2, n = batch.tuples
        assert (batch.labels[a1] == batch.labels[p]).all()
        assert (batch.labels[a2] != batch.labels[n]).all()
        assert (batch.images[a1] != batch.images[p]).all()
        rows = torch.cat([torch.stack([a1, p], 1), torch.stack([a2, n], 1)])
        half = len(batch.labels) // 2
        assert sorted(rows.tolist()) == [[i, i + half] for i in range(half)]
        assert set(batch.images.tolist()) <= train
    same = SOURCE.labels[data.epoch(0).items]
    assert (same[:, 0] == same[:, 1]).double().mean() == 0.5


@given(
    counts=st.lists(st.integers(2, 9), min_size=2, max_size=5),
    per_class=st.none() | st.integers(1, 10),
    seed=st.integers(0, 100),
)
@settings(deadline=None)
def test_consecutive_pairs_against_a_loop(counts: list[int], per_class: int | None, seed: int) -> None:
    labels = toy_images(counts, size=1, seed=seed).labels.numpy()
    pairs = consecutive_pairs(labels, per_class, np.random.default_rng(seed))
    indices = [[i for i, label in enumerate(labels) if label == d] for d in range(len(counts))]
    n = min(len(of_class) for of_class in indices) - 1
    n = n if per_class is None else min(n, per_class)
    found = iter(pairs.tolist())
    for d in range(len(counts)):
        for i in range(n):
            assert next(found) == [indices[d][i], indices[d][i + 1]]
            anchor, other = next(found)
            assert anchor == indices[d][i]
            assert labels[other] != d
            assert other == indices[labels[other]][i]
    assert next(found, None) is None


def test_the_other_class_of_a_pair_is_uniform() -> None:
    labels = np.arange(4).repeat(3000)
    pairs = consecutive_pairs(labels, None, np.random.default_rng(0))[1::2]
    table = np.bincount(labels[pairs[:, 0]] * 4 + labels[pairs[:, 1]], minlength=16).reshape(4, 4)
    assert np.abs(table - 1000 * (1 - np.eye(4))).max() < 120


@given(
    counts=st.lists(st.integers(3, 14), min_size=2, max_size=7),
    size=st.integers(2, 3),
    seed=st.integers(0, 100),
    data=st.data(),
)
@settings(deadline=None)
def test_class_groups_in_a_row_are_of_different_classes(
    counts: list[int], size: int, seed: int, data: st.DataObject
) -> None:
    labels = toy_images(counts, size=1, seed=seed).labels.numpy()
    groups = class_groups(labels, size, np.random.default_rng(seed))
    classes, in_a_row = len(counts), data.draw(st.integers(1, len(counts)))
    assert len(groups) == classes * max(1, len(labels) // (size * classes))
    assert all(len(set(group)) == size and len(set(labels[group])) == 1 for group in groups.tolist())
    step = classes if in_a_row == classes else 1
    for start in range(0, len(groups) - in_a_row + 1, step):
        assert len(set(labels[groups[start : start + in_a_row, 0]])) == in_a_row
    for label, count in enumerate(counts):  # no image twice before all that fill a group came once
        used = groups[labels[groups[:, 0]] == label]
        for start in range(0, len(used), count // size):
            a_pass = used[start : start + count // size]
            assert len(np.unique(a_pass)) == a_pass.size


def test_class_groups_come_in_many_orders() -> None:
    groups = class_groups(np.arange(5).repeat(400), 2, np.random.default_rng(0))
    orders = {tuple(groups[i : i + 5, 0] // 400) for i in range(0, len(groups), 5)}
    assert len(orders) > 30


def test_a_balanced_batch_has_m_images_of_each_of_p_classes_always() -> None:
    batches = Balanced(4)
    data = SiameseData(SOURCE, dataclasses.replace(TOY, batch_size=12), 0, batches)
    for batch in data.loader:
        assert batch.tuples is None
        assert len(set(batch.images.tolist())) == 12
        assert sorted(np.bincount(batch.labels, minlength=4).tolist()) == [0, 4, 4, 4]


def test_a_view_is_another_crop_of_the_same_image() -> None:
    data = toy("views", 5)
    seen = []
    for batch in data.loader:
        assert batch.tuples is not None
        assert batch.draws is not None
        count = len(batch.images) // 2
        seen += batch.images[:count].tolist()
        a1, p, a2, n = batch.tuples
        assert torch.equal(a1[:count], torch.arange(count))
        assert torch.equal(p[:count], torch.arange(count) + count)
        assert torch.equal(batch.images[a1], batch.images[p])
        assert (batch.draws[a1] != batch.draws[p]).all()
        assert torch.equal(batch.labels, SOURCE.labels[batch.images])
        told = set(zip(a1.tolist(), p.tolist(), strict=True)) | set(zip(a2.tolist(), n.tolist(), strict=True))
        assert told == {(i, j) for i in range(2 * count) for j in range(2 * count) if i != j}
        assert len(a1) + len(a2) == len(told)
        assert (batch.images[a2] != batch.images[n]).all()
    assert sorted(seen) == data.parts["train"].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_measured_on_tuples_that_do_not_depend_on_the_batch_size(kind: str) -> None:
    small, large = toy(kind, 2), toy(kind, 4)
    for part in ("validation", "test"):
        labels = SOURCE.labels[torch.from_numpy(small.parts[part])]
        groups = small.measured(part)
        if kind != "balanced":  # every triplet once
            found = torch.cat([rows.view(3, -1).t() for rows, _ in groups])
            expected = np.searchsorted(small.parts[part], small.triplets[part])
            assert sorted(found.tolist()) == sorted(expected.tolist())
        size = min(3, int(np.bincount(labels).min()))
        for (rows, tuples), (others, _) in zip(groups, large.measured(part), strict=True):
            assert torch.equal(rows, others)
            if kind == "balanced":
                assert tuples is None
                assert np.bincount(labels[rows]).tolist() == [size] * 4
            else:
                assert tuples is not None
                a, p, *_, n = tuples
                assert (labels[rows][a] == labels[rows][p]).all()
                assert (labels[rows][a] != labels[rows][n]).all()
                assert len(tuples) == (3 if kind == "triplets" else 4)


# -- a stop changes nothing ------------------------------------------------------------------------


def configured(*words: str) -> Config:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return validate(compose("train", ["name=test", *words]))


SMALL = (
    *("data=digits", "data.images_per_class=24", "data.image_size=8", "model=conv_small", "model.width=4"),
    *("model.embedding_dim=8", "device=cpu", "trainer.max_epochs=2", "callbacks.progress_bar=false"),
)
STOPPED = {
    "hard negatives": ("batches=hard_negatives", "loss=lifted", "data.batch_size=16"),
    "magnet": ("batches=magnet", "batches.images_per_cluster=4", "loss=magnet", "data.batch_size=16"),
    "balanced": ("batches=balanced", "batches.images_per_class=4", "loss=triplet_batch_all", "data.batch_size=16"),
    "balanced by images": (
        *("batches=balanced", "batches.images_per_class=4", "batches.weight=images", "loss=triplet_batch_all"),
        "data.batch_size=16",
    ),
    "views": ("batches=views", "loss=instance", "data.batch_size=16"),
    "pairs": ("batches=pairs", "loss=contrastive", "data.batch_size=32"),
}


def fitted(config: Config, source: LabelledImages, where: Path, stop_after: int | None, resume: bool = False) -> dict:
    """The state after a fit of ``config``, which a signal stops after so many micro-batches."""
    torch.manual_seed(config.seed)
    data = split_data(config, source)
    module = build(config, data)
    run = RunDirectory(where)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    with StopRequest() as stop:
        seen: list[list[int]] = []
        step = module.training_step

        def training_step(batch: Batch, batch_idx: int) -> object:
            seen.append(batch.labels.tolist())
            if len(seen) == stop_after:
                stop.signal = 2
            return step(batch, batch_idx)

        module.training_step = training_step  # type: ignore[method-assign, assignment]
        trainer = make_trainer(config, where, [Checkpoints(run, stop, lambda: None)])
        last = where / "checkpoints" / "last.ckpt"
        trainer.fit(module, datamodule=data, ckpt_path=last if resume else None, weights_only=True)
    return module.net.state_dict()


@pytest.mark.parametrize("kind", STOPPED)
def test_a_fit_that_was_stopped_ends_with_the_weights_of_one_that_was_not(kind: str, tmp_path: Path) -> None:
    config = configured(*SMALL, *STOPPED[kind])
    source = load(config.data, config.seed)
    expected = fitted(config, source, tmp_path / "whole", None)
    length = len(split_data(config, source).loader)
    assert length >= 6
    stops = (
        (2, length // 2, length + 1) if kind in ("magnet", "hard negatives") else (length + 2,)
    )  # within, at and after a refresh
    for after in stops:
        where = tmp_path / f"stopped{after}"
        with pytest.raises(Interrupted):
            fitted(config, source, where, after)
        found = fitted(config, source, where, None, resume=True)
        for name, value in expected.items():
            assert torch.equal(found[name], value), (after, name)


# -- the words for it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("batches=pairs", "micro-batch 64 pairs × window 1 × 1 device = 64 pairs a step"),
        ("batches=balanced trainer.accumulate_grad_batches=2", "64 images × window 2 × 1 device = 128 images a step"),
        ("batches=views loss.koleo_weight=1", "64 images × window 1 × 1 device = 64 images a step; KoLeo sees 128 emb"),
        ("batches=pairs loss.koleo_weight=1", "KoLeo sees 128 embeddings"),
        ("batches=balanced loss.koleo_weight=1", "KoLeo sees 64 embeddings"),
    ],
)
def test_the_first_line_names_what_a_step_sees(words: str, says: str) -> None:
    config = configured("loss=contrastive", *words.split())
    objective = Objective("contrastive", ContrastiveLoss(), KoLeo(), config.objective.koleo_weight)
    assert says in statement(config, make_kind(config), objective, 1)


WRONG = {
    "batches._target_=siamese.data.batches.Duos": ("batches._target_=siamese.data.batches.Duos", "cannot be imported"),
    "batches._target_=siamese.losses.KoLeo": ("batches._target_=siamese.losses.KoLeo", "batches.Kind, found KoLeo"),
    "+batches.images_per_class=4": ("'batches.images_per_class'", "Triplets takes no arguments"),
    "batches=balanced batches.images_per_class=null": ("batches.images_per_class=null", "expected int"),
    "batches=balanced batches.images_per_class=7": ("data.batch_size=64", "multiple of 7"),
    "batches=balanced data.batch_size=8": ("data.batch_size=8", "at least 16"),
    "batches=magnet data.batch_size=12": ("data.batch_size=12", "multiple of 8"),
    "batches=pairs data.split=article": ("batches=pairs", "expected batches=triplets"),
    "batches=pairs loss.koleo_over=anchors": ("loss.koleo_over=anchors", "batches=pairs"),
}


@pytest.mark.parametrize("words", WRONG)
def test_batches_that_cannot_be_are_refused_in_one_line(words: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", ["name=test", "device=cpu", "model=conv_small", *words.split()])
    with pytest.raises(ConfigError) as raised:
        check(Command(composed), Path())
    assert len(str(raised.value).splitlines()) == 1
    for part in WRONG[words]:
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("batches", "size", "says"),
    [
        (Balanced(2), 10, "holds 5 classes; expected at most the 4 there are"),
        (Balanced(15), 30, "=15: class 'class0' has only 14 training images; expected fewer, or batches.small_c"),
        (Balanced(20), 40, "3 classes have fewer training images, 'class0' 14, 'class1' 1., 'class3' 1.; expected"),
        (Balanced(2, weight="images"), 8, r"at most, 25.0% of all; 'class2' \(32.4%\) would have more; exp"),
        (
            Balanced(2, weight="sqrt"),
            8,
            r"weight=sqrt: a micro-batch of 4 .*; 'class1' .*, 'class2' \(28.6%\) would",
        ),
        (Magnet(2, 4, 2), 32, "holds 8 clusters; expected at most 7"),
        (Magnet(16, 4, 2), 8, "batches.clusters_per_class=16: class 'class0' has only 14"),
        (Magnet(2, 4, 50), 8, "batches.refreshes=50: an epoch has only"),
        (Pairs(), 500, "data.batch_size=500: the training split has only"),
        (Views(), 500, "data.batch_size=500: the training split has only 68 images"),
    ],
)
def test_groups_that_the_data_cannot_fill_are_refused(batches: Kind, size: int, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SiameseData(SOURCE, dataclasses.replace(TOY, batch_size=size), 0, batches)


# -- images of several classes, of none, and of classes that not every part has ---------------------


@pytest.mark.parametrize("kind", [k for k in KINDS if k.startswith(("triplets", "pairs"))])
def test_images_that_share_one_of_several_classes_are_never_told_as_negatives(kind: str) -> None:
    batches, formed = KINDS[kind]
    more = np.array([[i, (int(SOURCE.labels[i]) + 1) % 4] for i in range(0, len(SOURCE.ids), 2)])
    source = dataclasses.replace(SOURCE, more_labels=more)
    data = SiameseData(source, dataclasses.replace(TOY, batch_size=4, triplets=formed), 0, batches)
    classes = [{int(label)} for label in SOURCE.labels]
    for image, label in more.tolist():
        classes[image].add(label)
    negatives = [triplets[:, [0, 2]] for triplets in data.triplets.values()]
    for batch in data.loader:
        assert batch.tuples is not None
        negatives.append(
            batch.images[torch.stack([batch.tuples[-3 if len(batch.tuples) == 3 else -2], batch.tuples[-1]], 1)].numpy()
        )
    for anchor, negative in np.concatenate(negatives).tolist():
        assert not classes[anchor] & classes[negative]


def test_several_classes_and_none_are_refused_where_a_loss_could_not_know() -> None:
    source = dataclasses.replace(SOURCE, more_labels=np.array([[0, 1], [3, 2]]))
    for batches in (Balanced(2), Magnet(2, 2, 1)):
        with pytest.raises(
            ConfigError, match=r"2 images have several classes, .*; expected batches=triplets, pairs or v"
        ):
            SiameseData(source, dataclasses.replace(TOY, batch_size=4), 0, batches)
    source = dataclasses.replace(SOURCE, labels=torch.full_like(SOURCE.labels, -1), class_names=())
    for batches in (Triplets(), Pairs(), Balanced(2)):
        with pytest.raises(
            ConfigError, match="the training images have no classes; expected batches=views, which needs"
        ):
            SiameseData(source, dataclasses.replace(TOY, batch_size=4), 0, batches)


def test_views_need_no_classes() -> None:
    source = dataclasses.replace(SOURCE, labels=torch.full_like(SOURCE.labels, -1), class_names=())
    data = SiameseData(source, dataclasses.replace(TOY, batch_size=8), 0, Views())
    seen = torch.cat([batch.images[: len(batch.images) // 2] for batch in data.loader])
    assert sorted(seen.tolist()) == data.parts["train"].tolist()
    for part in ("validation", "test"):
        assert data.triplets[part].shape == (0, 3)
        rows = [rows for rows, _ in data.measured(part)]
        count = len(data.parts[part])
        assert sorted(torch.cat(rows).tolist()) == list(range(2 * count))  # the images, and then their other views
        for one, found in data.measured(part):
            assert found is not None
            a1, p, a2, n = found
            assert torch.equal(one[a1] % count, one[p] % count)
            assert (one[a1] != one[p]).all()
            assert (one[a2] % count != one[n] % count).all()


@pytest.mark.parametrize("batches", [Triplets(), Pairs(), Balanced(2), Views()])
def test_every_kind_trains_on_some_classes_and_measures_on_others(batches: Kind) -> None:
    source = toy_images([6] * 10, size=4)
    data = SiameseData(source, Data(split="by_class", val_fraction=0.3, test_fraction=0.3, batch_size=4), 0, batches)
    trained = set(torch.cat([batch.labels for batch in data.loader]).tolist())
    for part in ("validation", "test"):
        labels = source.labels[torch.from_numpy(data.parts[part])]
        rows = torch.cat([rows for rows, _ in data.measured(part)])
        assert len(set(labels[rows].tolist())) == {"validation": 2, "test": 3}[part]
        assert not trained & set(labels.tolist())
