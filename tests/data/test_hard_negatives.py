"""Pairs of one class and their hard negatives, against a slow and obvious choice."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import toy_images
from support.processes import Cli
from torch import nn

from siamese.config.schema import Data
from siamese.data import SiameseData
from siamese.data.batches import HardNegatives, Segment, Training
from siamese.data.batches.hard_negatives import beside, random_pairs
from siamese.errors import ConfigError


def obvious(pairs: list[list[int]], z: np.ndarray, labels: np.ndarray, count: int) -> list[list[int]]:
    taken = {image for pair in pairs for image in pair}
    items = []
    for a, p in pairs:
        away = {x: min(float(np.linalg.norm(z[a] - z[x])), float(np.linalg.norm(z[p] - z[x]))) for x in range(len(z))}
        others = [x for x in away if labels[x] != labels[a] and x not in taken]
        negatives = sorted(others, key=away.__getitem__)[:count]
        taken |= set(negatives)
        items.append([a, p, *negatives])
    return items


@given(
    counts=st.lists(st.integers(12, 20), min_size=3, max_size=5),
    size=st.integers(1, 4),
    count=st.integers(1, 4),
    block=st.sampled_from([1, 100, 1 << 22]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=40)
def test_negatives_are_the_nearest_of_other_classes_that_are_not_there_yet(
    counts: list[int], size: int, count: int, block: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(len(counts)).repeat(counts))
    z = random.normal(size=(len(labels), 3))
    pairs = random_pairs(labels, random)[:size]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("siamese.losses.pairwise.BLOCK_ENTRIES", block)
        found = beside(pairs, torch.from_numpy(z), torch.from_numpy(labels), count)
    assert found.tolist() == obvious(pairs.tolist(), z, labels, count)


def test_pairs_that_want_the_same_images_take_the_next() -> None:
    """Four pairs at one place, and other images on a line: each pair goes on where the one before stopped."""
    z = np.concatenate([np.zeros((8, 1)), np.arange(1.0, 9)[:, None]])
    labels = np.array([0] * 8 + [1] * 8)
    pairs = np.arange(8).reshape(4, 2)
    found = beside(pairs, torch.from_numpy(z), torch.from_numpy(labels), 2)
    assert found[:, 2:].tolist() == [[8, 9], [10, 11], [12, 13], [14, 15]]


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 100))
@settings(deadline=None)
def test_every_image_is_in_one_pair_of_its_class(counts: list[int], seed: int) -> None:
    labels = np.arange(len(counts)).repeat(counts)
    pairs = random_pairs(labels, np.random.default_rng(seed))
    assert (labels[pairs[:, 0]] == labels[pairs[:, 1]]).all()
    assert len(np.unique(pairs)) == pairs.size
    assert np.bincount(labels[pairs[:, 0]], minlength=len(counts)).tolist() == [count // 2 for count in counts]


def drawn(epoch: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    labels = toy_images([20, 23, 30], size=1).labels.numpy()
    z = (np.random.default_rng(7).normal(size=(len(labels), 3)) * [scale, 1, 1]).astype(np.float32)
    kind = HardNegatives(3)
    training = Training(labels, None, Data(), seed)
    assert kind.length(training) == 36
    items = kind.items(training, epoch, Segment(0, 9, 4, lambda: z))
    for batch in items.reshape(9, 4, 5):
        assert batch.tolist() == obvious(batch[:, :2].tolist(), z, labels, 3)
        assert len(np.unique(batch)) == batch.size
    return items


def test_an_epoch_is_of_its_seed_and_number_and_follows_the_network() -> None:
    first = drawn(0)
    assert np.array_equal(first, drawn(0))
    assert not np.array_equal(first[:, :2], drawn(1)[:, :2])
    assert not np.array_equal(first[:, :2], drawn(0, seed=1)[:, :2])
    other = drawn(0, scale=100)
    assert np.array_equal(first[:, :2], other[:, :2])
    assert not np.array_equal(first[:, 2:], other[:, 2:])
    assert len({tuple(pair) for pair in first[:, :2].tolist()}) == 36


def test_too_few_images_of_other_classes_are_refused_in_one_line() -> None:
    source = toy_images([40, 9, 8, 7], size=4)
    with pytest.raises(ConfigError) as raised:
        SiameseData(source, Data(batch_size=24, val_fraction=0.2), 0, HardNegatives(2))
    assert str(raised.value) == (
        "data.batch_size=24: with batches.negatives=2 the negatives of a pair are drawn from at least 22 training "
        "images of other classes; there are fewer beside 'class0' 12"
    )
    data = SiameseData(source, Data(batch_size=12, val_fraction=0.2), 0, HardNegatives(2))
    assert data.loader.items == sum(np.bincount(source.labels[data.parts["train"]]) // 2)
    for part in ("validation", "test"):
        assert all(tuples is None and len(rows) for rows, tuples in data.measured(part))


def test_each_of_several_devices_embeds_every_training_image() -> None:
    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.float().mean((2, 3))

    source = toy_images([20, 23, 30], size=4)
    data = SiameseData(source, Data(batch_size=8, eval_batch_size=7), 0, HardNegatives(), devices=2)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        lightning_module=SimpleNamespace(net=Mean()),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
        precision_plugin=SimpleNamespace(forward_context=contextlib.nullcontext),
        global_rank=1,
        world_size=2,
    )
    expected = source.images[torch.from_numpy(data.parts["train"])].float().mean((2, 3))
    assert torch.equal(torch.from_numpy(data._embed_training()), expected)


WORDS = (
    *("data=digits", "data.images_per_class=24", "data.image_size=8", "model=conv_small", "model.width=4"),
    *("trainer.max_epochs=2", "figures.draw=false", "device=cpu", "batches=hard_negatives", "data.batch_size=30"),
)


def test_it_trains_from_the_command_line(train_cli: Cli, tmp_path: Path) -> None:
    words = (*WORDS, "loss=lifted", "batches.negatives=3", f"hydra.run.dir={tmp_path / 'run'}")
    done = train_cli(*words)
    assert "micro-batch 30 images × window 1 × 1 device = 30 images a step" in done.stdout
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["split"]["train_pairs_with_negatives"] == sum(
        count // 2 for count in manifest["split"]["classes"]["train"].values()
    )
    assert manifest["split"]["tuples"]["train"] is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("loss=lifted batches.negatives=0", "batches.negatives=0: expected at least 1"),
        ("loss=lifted", "data.batch_size=30: expected a multiple of 4, the images of each of its pairs with negatives"),
        (
            "loss=triplet data.batch_size=32",
            "batches=hard_negatives: TripletLoss (loss) cannot use it; expected batches=triplets",
        ),
        ("loss=lifted data.batch_size=400", "data.batch_size=400: with batches.negatives=2 the negatives of a pair"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: str, says: str, train_cli: Cli) -> None:
    done = train_cli(*WORDS, *words.split(), check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
