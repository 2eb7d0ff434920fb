"""Sources, splits, tuples and batches."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import toy_images
from torchvision.datasets import CIFAR10

from siamese.config.data import Data
from siamese.data import SiameseData, article_triplets, crop_and_flip, draw_triplets, load, split_images
from siamese.data.draws import generator
from siamese.data.tuples import article_split
from siamese.errors import ConfigError

TOY = Data(source="toy", batch_size=4, negatives_per_class=None, val_fraction=0.2)


# -- draws -----------------------------------------------------------------------------------------


def test_draws_depend_on_seed_purpose_and_place_alone() -> None:
    first = generator(0, "order", 3).random(5)
    generator(0, "order", 4).random(100)
    assert np.array_equal(first, generator(0, "order", 3).random(5))
    others = [generator(1, "order", 3), generator(0, "augmentation", 3), generator(0, "order", 4)]
    assert all(not np.array_equal(first, other.random(5)) for other in others)


# -- splits ----------------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(8, 30), min_size=2, max_size=5),
    fraction=st.floats(0.05, 0.5),
    seed=st.integers(0, 5),
    split=st.sampled_from(["by_image", "kfold"]),
    test=st.integers(0, 1),
)
@settings(max_examples=60, deadline=None)
def test_no_image_is_in_two_parts_and_none_is_lost(
    counts: list[int], fraction: float, seed: int, split: str, test: int
) -> None:
    source = toy_images(counts, size=2, seed=seed)
    order = np.argsort(source.labels.numpy(), kind="stable")
    first = order[np.searchsorted(source.labels.numpy()[order], np.arange(len(counts)))[:, None] + np.arange(2)]
    source = dataclasses.replace(source, is_test=np.isin(np.arange(len(source.ids)), first) & bool(test))
    data = dataclasses.replace(TOY, split=split, val_fraction=fraction, test_fraction=0.25, folds=2, fold=1)
    parts = split_images(source, data, seed)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert np.array_equal(np.sort(together), np.arange(len(source.labels)))
    if test:
        assert np.array_equal(parts.test, np.flatnonzero(source.is_test))
    rest = np.bincount(source.labels.numpy()[np.setdiff1d(together, parts.test)], minlength=len(counts))
    held = np.bincount(source.labels.numpy()[parts.validation], minlength=len(counts))
    share = 0.5 if split == "kfold" else fraction
    assert np.all(np.abs(held - np.maximum(rest * share, 2)) <= 1)


def test_folds_partition_the_training_images() -> None:
    source = toy_images([20, 25, 30])
    data = dataclasses.replace(TOY, split="kfold", folds=5)
    splits = [split_images(source, dataclasses.replace(data, fold=f), 0) for f in range(5)]
    held = np.concatenate([s.validation for s in splits])
    assert len(held) == len(np.unique(held))
    assert np.array_equal(np.sort(held), np.sort(np.concatenate([splits[0].train, splits[0].validation])))


def test_a_class_too_small_to_split_is_named() -> None:
    with pytest.raises(ConfigError, match=r"1 of 2 classes has too few images .*: 'class1' \(3 images\)"):
        split_images(toy_images([20, 3]), TOY, 0)


# -- tuples ----------------------------------------------------------------------------------------


def article_as_printed(labels: np.ndarray, n_neg_wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The article's procedure on image numbers in place of images, with NumPy's global generator."""
    np.random.seed(42)
    numbers = np.arange(len(labels))
    rows = []
    for target in range(10):
        pairs = numbers[labels == target].reshape(-1, 2)
        others = numbers[labels != target]
        n_neg = min(n_neg_wanted, len(others))
        drawn = np.random.choice(len(others), n_neg, replace=False)
        pairs = pairs[:n_neg]
        rows.extend([[a, p, others[d]] for (a, p), d in zip(pairs, drawn, strict=True)])
    triplets = np.array(rows)
    np.random.choice(len(triplets), 5, replace=False)
    triplets = triplets[np.random.permutation(len(triplets))]
    keep = int((1 - 0.05) * len(triplets))
    return triplets[:keep], triplets[keep:]


def test_article_split_is_the_articles_index_for_index() -> None:
    labels = np.random.default_rng(7).permutation(np.repeat(np.arange(10), 5000))
    train, validation = article_split(labels, 2500, 42)
    expected_train, expected_validation = article_as_printed(labels, 2500)
    assert np.array_equal(train, expected_train)
    assert np.array_equal(validation, expected_validation)
    counts = np.bincount(labels[validation[:, 0]])
    assert counts.tolist() == [124, 113, 125, 119, 127, 138, 119, 123, 130, 132]  # printed by the article


def test_the_articles_split_takes_another_fraction_of_the_same_triplets() -> None:
    labels = np.repeat(np.arange(4), 50)
    train, validation = article_split(labels, None, 0)
    more, rest = article_split(labels, None, 0, 0.25)
    assert (len(validation), len(rest)) == (5, 25)
    assert np.array_equal(np.concatenate([train, validation]), np.concatenate([more, rest]))
    with pytest.raises(ConfigError, match=r"data\.val_fraction=0\.005: of 100 triplets .* expected at least 200"):
        article_split(labels, None, 0, 0.005)


def test_article_split_shares_images_and_by_image_does_not() -> None:
    source = toy_images([200] * 10, size=2)
    article = SiameseData(source, dataclasses.replace(TOY, split="article", triplets="article"), 0)
    leaked = np.isin(article.triplets["validation"], article.epoch(0).items.numpy()).any(axis=1)
    assert leaked.mean() > 0.5
    clean = SiameseData(source, TOY, 0)
    assert not np.isin(clean.triplets["validation"], clean.epoch(0).items.numpy()).any()


def test_article_pairs_are_consecutive_and_an_odd_image_is_left() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 0])
    triplets = article_triplets(labels, None, np.random.RandomState(0))
    assert triplets[:, :2].tolist() == [[0, 2], [4, 6], [1, 3]]
    assert np.all(labels[triplets[:, 2]] != labels[triplets[:, 0]])


@given(
    counts=st.lists(st.integers(2, 12), min_size=2, max_size=6),
    per_class=st.none() | st.integers(1, 40),
    seed=st.integers(0, 100),
)
@settings(deadline=None)
def test_drawn_triplets_are_triplets(counts: list[int], per_class: int | None, seed: int) -> None:
    labels = toy_images(counts, size=1, seed=seed).labels.numpy()
    triplets = draw_triplets(labels, per_class, np.random.default_rng(seed))
    anchor, positive, negative = labels[triplets].T
    assert np.array_equal(anchor, positive)
    assert np.all(anchor != negative)
    assert np.all(triplets[:, 0] != triplets[:, 1])
    for label, count in enumerate(counts):
        anchors = triplets[anchor == label, 0]
        assert len(anchors) == (per_class or count)
        uses = np.bincount(anchors, minlength=len(labels))[labels == label]
        assert uses.max() - uses.min() <= 1


def test_drawn_positives_and_negatives_are_uniform() -> None:
    labels = np.array([0] * 4 + [1] * 3 + [2] * 5)
    random = np.random.default_rng(0)
    triplets = np.concatenate([draw_triplets(labels, None, random) for _ in range(4000)])
    mine = triplets[triplets[:, 0] == 1]
    positives = np.bincount(mine[:, 1], minlength=12) / len(mine)
    negatives = np.bincount(mine[:, 2], minlength=12) / len(mine)
    assert np.allclose(positives, [1 / 3, 0, 1 / 3, 1 / 3, *[0] * 8], atol=0.03)
    assert np.allclose(negatives, [0] * 4 + [1 / 8] * 8, atol=0.03)


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("triplets", ["article", "fixed", "resampled"])
def test_an_epoch_is_the_same_whatever_the_batch_size(triplets: str) -> None:
    source = toy_images([20] * 3)
    seen = []
    for size in (1, 5, 16):
        data = SiameseData(source, dataclasses.replace(TOY, triplets=triplets, batch_size=size), 0)
        data.loader.epoch = lambda: 2
        pixels, order = [], []
        for batch in data.train_dataloader():
            order.append(batch.images.view(3, -1).t())
            moved = data.on_after_batch_transfer(batch, 0)
            pixels.append(moved.images.view(3, -1, *moved.images.shape[1:]).transpose(0, 1))
        seen.append((torch.cat(order), torch.cat(pixels)))
    for order, pixels in seen[1:]:
        assert torch.equal(order, seen[0][0])
        assert torch.equal(pixels, seen[0][1])


def test_epochs_differ_in_order_and_only_resampled_ones_in_triplets() -> None:
    source = toy_images([20] * 3)
    for triplets, same in (("article", True), ("fixed", True), ("resampled", False)):
        data = SiameseData(source, dataclasses.replace(TOY, triplets=triplets), 0)
        first, second = data.epoch(0).items, data.epoch(1).items
        assert not torch.equal(first, second)
        assert (set(map(tuple, first.tolist())) == set(map(tuple, second.tolist()))) is same


def test_held_out_triplets_are_fixed_by_the_seed() -> None:
    source = toy_images([30] * 3)
    one = SiameseData(source, TOY, 0)
    other = SiameseData(source, dataclasses.replace(TOY, batch_size=16, triplets="resampled"), 0)
    for part in ("validation", "test"):
        assert np.array_equal(one.triplets[part], other.triplets[part])
    assert not np.array_equal(one.triplets["test"], SiameseData(source, TOY, 1).triplets["test"])


def test_batch_rows_are_anchors_then_positives_then_negatives() -> None:
    source = toy_images([10, 10, 10])
    data = SiameseData(source, TOY, 0)
    epoch = data.epoch(0)
    batch = next(iter(data.train_dataloader()))
    a, p, n = batch.tuples
    for role, rows in enumerate((a, p, n)):
        assert torch.equal(batch.images[rows], epoch.items[:4, role])
        assert batch.draws is not None
        assert torch.equal(batch.draws[rows], epoch.draws[:4, role])
    assert torch.equal(batch.labels, source.labels[batch.images])


@given(position=st.integers(0, 20), size=st.integers(1, 7))
@settings(max_examples=30, deadline=None)
def test_a_loader_goes_on_from_any_micro_batch(position: int, size: int) -> None:
    config = dataclasses.replace(TOY, batch_size=size)
    source = toy_images([12, 12], size=2)
    whole = list(SiameseData(source, config, 0).train_dataloader())
    position %= len(whole)
    loader = SiameseData(source, config, 0).train_dataloader()
    loader.position = lambda: position
    rest = list(loader)
    assert len(rest) == len(whole) - position
    for x, y in zip(rest, whole[position:], strict=True):
        assert torch.equal(x.images, y.images)
        assert torch.equal(x.draws, y.draws)


def test_crop_and_flip_against_torchvision_image_by_image() -> None:
    images = torch.randint(0, 256, (40, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = torch.rand(40, 3, generator=torch.Generator().manual_seed(1))
    out = crop_and_flip(images, draws, padding=2, flip=True)
    for image, (u, v, w), got in zip(images, draws.tolist(), out, strict=True):
        expected = tv.crop(tv.pad(image, [2]), int(u * 5), int(v * 5), 9, 9)
        assert torch.equal(got, tv.hflip(expected) if w < 0.5 else expected)
    assert torch.equal(crop_and_flip(images, draws, padding=0, flip=False), images)


def test_no_augmentation_leaves_the_pixels() -> None:
    source = toy_images([10, 10])
    data = SiameseData(
        source,
        dataclasses.replace(
            TOY, augment={"_target_": "siamese.data.augment.CropFlip", "crop_padding": 0, "flip": False}
        ),
        0,
    )
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(data.on_after_batch_transfer(batch, 0).images, source.images[batch.images])


def test_measured_moments_are_those_of_the_training_images() -> None:
    source = toy_images([40, 40])
    data = SiameseData(source, TOY, 0)
    train = source.images[torch.from_numpy(data.parts["train"])].double() / 255
    assert np.allclose(data.mean, train.mean((0, 2, 3)), atol=1e-5)
    assert np.allclose(data.std, train.std((0, 2, 3), correction=0), atol=1e-5)


# -- sources ---------------------------------------------------------------------------------------


def test_digits_have_a_fixed_stratified_test_part() -> None:
    source = load(Data(source={"_target_": "siamese.data.digits"}), 0)
    assert source.images.shape == (1797, 3, 32, 32)
    assert source.images.dtype == torch.uint8
    assert len(source.class_names) == 10
    per_class = np.bincount(source.labels[source.is_test])
    assert per_class.min() >= 34
    assert np.array_equal(source.is_test, load(Data(source={"_target_": "siamese.data.digits"}), 5).is_test)


def test_a_subset_is_stratified_seeded_and_leaves_the_test_part() -> None:
    full = load(Data(source={"_target_": "siamese.data.digits"}), 0)
    some = load(Data(source={"_target_": "siamese.data.digits"}, images_per_class=7), 0)
    assert np.bincount(some.labels[~some.is_test]).tolist() == [7] * 10
    assert np.array_equal(some.ids[some.is_test], full.ids[full.is_test])
    assert set(some.ids) <= set(full.ids)
    where = np.searchsorted(full.ids, some.ids)
    assert torch.equal(some.images, full.images[where])
    assert set(some.ids) != set(load(Data(source={"_target_": "siamese.data.digits"}, images_per_class=7), 1).ids)


def official_archive(root: Path, per_batch: int = 20) -> dict[str, str]:
    """A small cifar-10-python.tar.gz in the official layout; returns the md5 of each member."""
    random = np.random.default_rng(0)
    digests = {}
    root.mkdir(parents=True)
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
        for name in names:
            content: dict[str, object] = {"label_names": CIFAR10.base_folder and list("abcdefghij")}
            if name != "batches.meta":
                content = {
                    "data": random.integers(0, 256, (per_batch, 3072), dtype=np.uint8),
                    "labels": [i % 10 for i in range(per_batch)],
                }
            raw = pickle.dumps(content)
            digests[name] = hashlib.md5(raw).hexdigest()
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    digests["archive"] = hashlib.md5((root / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    return digests


def test_the_official_archive_is_verified_and_read_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    md5 = official_archive(tmp_path / "data")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5["archive"])
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    source = load(Data(source={"_target_": "siamese.data.cifar10"}, root=str(tmp_path / "data"), download=True), 0)
    assert source.images.shape == (120, 3, 32, 32)
    assert source.is_test.tolist() == [False] * 100 + [True] * 20
    assert source.ids[0] == "train/00000"
    assert source.ids[-1] == "test/00019"
    with open(tmp_path / "data" / "cifar-10-batches-py" / "data_batch_2", "rb") as file:
        second = pickle.load(file)["data"]
    assert np.array_equal(source.images[20:40].numpy(), second.reshape(-1, 3, 32, 32))
