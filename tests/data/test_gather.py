"""Pixels that are held on the device or gathered ahead of training are the same pixels."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.accumulating import fit, make
from support.images import toy_images
from torch import Tensor

from siamese.config.data import Data
from siamese.data import SiameseData, gather
from siamese.data.batch import Batch
from siamese.data.batches import HardNegatives, Magnet, Triplets
from siamese.data.gather import Ahead, fits, held
from siamese.data.images import Chosen, blocks, pixels

TOY = Data(source={"_target_": "x"}, triplets="resampled", batch_size=4, val_fraction=0.2)


class Slow:
    """Images that note who asks for which of them, and when."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.shape, self.nbytes = images, tuple(images.shape), images.nbytes
        self.asked: list[list[int]] = []
        self.threads: set[str] = set()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any, /) -> Tensor:
        self.asked.append(index.tolist())
        self.threads.add(threading.current_thread().name)
        return self.images[index]


def loader(count: int, size: int = 3) -> list[Batch]:
    return [Batch(torch.arange(size) + i, torch.zeros(size).long(), None, None) for i in range(count)]


def test_batches_come_in_order_with_their_pixels_two_ahead() -> None:
    images = Slow(toy_images([20]).images)  # type: ignore[arg-type]
    ahead = Ahead(loader(6), images)  # type: ignore[arg-type]
    assert len(ahead) == 6
    for number, batch in enumerate(ahead):
        assert torch.equal(batch.images, images.images[number : number + 3])
        assert len(images.asked) <= number + 1 + gather.AHEAD
    assert len(images.asked) == 6
    assert threading.current_thread().name not in images.threads


def test_none_ahead_asks_when_it_is_wanted() -> None:
    images = Slow(toy_images([20]).images)  # type: ignore[arg-type]
    for number, _ in enumerate(Ahead(loader(4), images, ahead=0)):  # type: ignore[arg-type]
        assert len(images.asked) == number + 1


def test_who_stops_early_leaves_no_thread_behind() -> None:
    images = Slow(toy_images([30]).images)  # type: ignore[arg-type]
    batches = iter(Ahead(loader(20), images))  # type: ignore[arg-type]
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(images.asked) <= 1 + gather.AHEAD
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gather")]


def test_what_cannot_be_read_is_raised_where_it_is_wanted() -> None:
    class Broken(Slow):
        def __getitem__(self, index: Any, /) -> Tensor:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        next(iter(Ahead(loader(3), Broken(toy_images([9]).images))))  # type: ignore[arg-type]


def test_the_budget_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    images, cpu = Slow(torch.zeros(10, 3, 8, 8, dtype=torch.uint8)), torch.device("cpu")
    assert fits(images, cpu, images.nbytes / 1e9)
    assert not fits(images, cpu, (images.nbytes - 1) / 1e9)
    for free, expected in ((images.nbytes * 4, True), (images.nbytes * 4 - 4, False), (None, True)):
        monkeypatch.setattr(gather, "available_memory", lambda free=free: free)
        assert fits(images, cpu, None) is expected
    assert torch.equal(held(images, cpu), images.images)


@pytest.mark.parametrize(("words", "batch_size"), [(("loss=triplet",), 8), (("loss=supcon",), 4)])
def test_a_fit_that_gathers_ends_with_the_weights_of_one_that_holds(
    words: tuple[str, ...], batch_size: int, tmp_path: Path
) -> None:
    weights = []
    for budget in (1.0, 1e-9):
        module, data = make(*words, batch_size=batch_size)
        images = Slow(data.source.images)  # type: ignore[arg-type]
        data.source = dataclasses.replace(data.source, images=images)
        data.config = dataclasses.replace(data.config, device_budget=budget)
        fit(module, data, tmp_path / str(budget), steps=4)
        weights.append(torch.cat([w.detach().flatten() for w in module.parameters()]))
        assert len(images.asked) == 1 if budget == 1.0 else len(images.asked) >= 4
    assert torch.equal(*weights)


def test_what_follows_the_network_is_not_drawn_ahead_of_it() -> None:
    config = dataclasses.replace(TOY, device_budget=1e-9, batch_size=12)
    source = toy_images([40, 40])
    source = dataclasses.replace(source, images=Slow(source.images))  # type: ignore[arg-type]
    for kind, ahead in ((Triplets(), gather.AHEAD), (Magnet(2, 4, refreshes=2), 0), (HardNegatives(), 0)):
        loader = SiameseData(source, config, 0, kind).train_dataloader()
        assert isinstance(loader, Ahead)
        assert loader.ahead == ahead


def test_blocks_and_choices_are_the_images() -> None:
    whole = toy_images([40, 30]).images
    assert isinstance(whole, Tensor)
    index = np.random.default_rng(0).permutation(70)[:50]
    assert torch.equal(torch.cat([*blocks(whole)]), whole)
    assert torch.equal(torch.cat([*blocks(whole, index)]), whole[index])
    chosen = Chosen(whole, index)
    assert (len(chosen), chosen.shape, chosen.nbytes) == (50, (50, 3, 8, 8), 50 * 192)
    assert torch.equal(chosen[torch.tensor([3, 1])], whole[index[[3, 1]]])
    assert np.array_equal(pixels(whole, index.reshape(5, 10)), whole.numpy()[index.reshape(5, 10)])


def test_moments_and_fingerprint_do_not_depend_on_how_images_are_had(monkeypatch: pytest.MonkeyPatch) -> None:
    source = toy_images([30, 30])
    monkeypatch.setattr("siamese.data.images.BLOCK", 1000)
    gathered = dataclasses.replace(source, images=Slow(source.images))  # type: ignore[arg-type]
    assert gathered.fingerprint == source.fingerprint
    first, second = SiameseData(source, TOY, 0), SiameseData(gathered, TOY, 0)
    assert (first.mean, first.std) == (second.mean, second.std)
