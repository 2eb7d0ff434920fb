"""What an optimizer step of several micro-batches computes, against the loss written out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from support.images import toy_images
from torch import nn

from siamese.config.data import Data
from siamese.data import SiameseData
from siamese.losses import KoLeo, Objective, TripletLoss
from siamese.models import EmbeddingNet
from siamese.training.accumulation import Naive
from siamese.training.module import SiameseModule
from siamese.training.window import place

DATA = Data(
    batch_size=4,
    negatives_per_class=None,
    triplets="fixed",
    val_fraction=0.2,
    augment={"_target_": "siamese.data.augment.CropFlip", "crop_padding": 1, "flip": True},
)


class Linear(nn.Module):
    """A backbone of one convolution: enough parameters for a gradient, and no BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.conv(x))


def make(koleo_weight: float, *, rescale: bool, batch_size: int) -> tuple[SiameseModule, SiameseData]:
    torch.manual_seed(0)
    data = SiameseData(toy_images([18, 18]), dataclasses.replace(DATA, batch_size=batch_size), 0)
    net = EmbeddingNet(Linear(), 6, 5, data.mean, data.std).double()
    objective = Objective("triplet", TripletLoss(0.4), KoLeo(), koleo_weight)
    module = SiameseModule(
        net,
        objective,
        data,
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        lambda optimizer, steps: None,
        Naive(rescale),
    )
    return module, data


def fit(module: SiameseModule, data: SiameseData, window: int, epochs: int, where: Path) -> dict[str, torch.Tensor]:
    trainer = pl.Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=epochs,
        accumulate_grad_batches=window,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=where,
    )
    trainer.fit(module, datamodule=data)
    return {k: v.clone() for k, v in module.net.state_dict().items()}


def by_hand(
    module: SiameseModule, data: SiameseData, window: int, epochs: int, *, divisor: int | None
) -> dict[str, torch.Tensor]:
    """The same training as a plain loop: each step descends the sum of its window's losses over
    ``divisor``, or over the window's own length."""
    optimizer = torch.optim.SGD(module.net.parameters(), lr=0.1)
    module.net.double()
    for epoch in range(epochs):
        data.loader.epoch = lambda epoch=epoch: epoch  # type: ignore[misc]
        batches = [data.on_after_batch_transfer(b, 0) for b in data.loader]
        for start in range(0, len(batches), window):
            group = batches[start : start + window]
            optimizer.zero_grad()
            losses = [module.objective(module.net(b.images), b.labels, b.tuples)[0] for b in group]
            (sum(losses) / (divisor or len(group))).backward()  # type: ignore[union-attr]
            optimizer.step()
    return dict(module.net.state_dict())


@pytest.mark.parametrize("koleo_weight", [0.0, 0.1])
@pytest.mark.parametrize(("window", "batch_size"), [(1, 4), (3, 4), (4, 3), (2, 5), (50, 4)])
@pytest.mark.parametrize("rescale", [True, False])
def test_a_step_is_the_mean_over_its_window(
    tmp_path: Path, koleo_weight: float, window: int, batch_size: int, rescale: bool
) -> None:
    trained = fit(*make(koleo_weight, rescale=rescale, batch_size=batch_size), window, 2, tmp_path)
    module, data = make(koleo_weight, rescale=rescale, batch_size=batch_size)
    expected = by_hand(module, data, window, 2, divisor=None if rescale else window)
    for name, value in expected.items():
        assert torch.allclose(trained[name], value, rtol=1e-10, atol=1e-12), name


def test_accumulated_triplets_equal_one_large_batch_and_koleo_does_not(tmp_path: Path) -> None:
    """12 triplets at once or as 3 × 4: the same step for the triplet loss, another one for KoLeo."""
    for weight, same in ((0.0, True), (0.1, False)):
        small = fit(*make(weight, rescale=True, batch_size=4), 3, 1, tmp_path)
        large = fit(*make(weight, rescale=True, batch_size=12), 1, 1, tmp_path)
        close = all(torch.allclose(small[k], large[k], rtol=1e-9, atol=1e-12) for k in small)
        assert close is same


def test_the_places_of_micro_batches_in_their_windows() -> None:
    assert [place(i, 7, 3).length for i in range(7)] == [3, 3, 3, 3, 3, 3, 1]
    assert [place(i, 7, 3).first for i in range(7)] == [True, False, False, True, False, False, True]
    assert [place(i, 7, 3).last for i in range(7)] == [False, False, True, False, False, True, True]
    assert [place(i, 2, 8) for i in range(2)] == [(True, False, 2), (False, True, 2)]
