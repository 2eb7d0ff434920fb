"""Measuring how far a step is from the exact one: the right numbers, and no trace on training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.accumulating import NoisyState, fit, make, weights
from torch import nn

from siamese.data.batches import Triplets
from siamese.losses import KoLeo, Objective, TripletLoss
from siamese.training.accumulation import Exact, Memory, Naive, statement
from siamese.training.gradient_study.gradients import compare
from siamese.training.gradient_study.meter import GradientMeter

MODES = {"naive": Naive, "exact": Exact, "memory": lambda: Memory("persistent", 30)}


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


@pytest.mark.parametrize("mode", ["naive", "memory"])
def test_what_is_measured_is_the_step_taken_against_the_exact_one(mode: str, tmp_path: Path) -> None:
    """Of the first step, where both runs still have the same weights."""
    words, meter = ("loss=triplet_koleo", "loss.koleo_weight=0.5"), GradientMeter(100)
    module, data = make(*words, batch_size=4, accumulation=Naive() if mode == "naive" else Memory())
    taken = fit(module, data, tmp_path, window=4, steps=1, callbacks=[meter])
    module, data = make(*words, batch_size=16)
    whole = fit(module, data, tmp_path, steps=1)
    expected = compare(flat(taken.gradients[0]), flat(whole.gradients[0]))
    assert expected is not None
    assert meter.means() == {
        "train/gradient_cosine": pytest.approx(expected.cosine, rel=1e-9),
        "train/gradient_norm_ratio": pytest.approx(expected.norm_ratio, rel=1e-9),
    }
    assert expected.cosine < 0.99


@pytest.mark.parametrize("mode", MODES)
def test_measuring_leaves_training_as_it_was_bit_for_bit(mode: str, tmp_path: Path) -> None:
    """With dropout, BatchNorm, and a loss that draws and remembers; measured at every other step."""
    ended = []
    for callbacks in ([], [GradientMeter(2)]):
        more = nn.Sequential(nn.BatchNorm2d(6), nn.Dropout(0.3))
        module, data = make("loss=triplet_koleo", batch_size=4, more=more, dtype=torch.float32)
        module.accumulation = MODES[mode]()
        module.objective = Objective("noisy", NoisyState(), KoLeo(), 0.1)
        torch.manual_seed(3)
        fit(module, data, tmp_path, window=3, precision="32-true", callbacks=callbacks)
        ended.append([*weights(module).values(), *module.buffers(), torch.rand(1)])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))


def test_only_every_so_many_steps_are_measured_and_an_epoch_has_its_own_mean(tmp_path: Path) -> None:
    counts: list[int] = []

    class Watching(GradientMeter):
        def on_train_batch_end(self, *_: Any) -> None:
            counts.append(self._count)

    module, data = make("loss=triplet_koleo", batch_size=4)
    fit(module, data, tmp_path, window=3, steps=6, callbacks=[Watching(2)])  # three steps of three an epoch
    assert counts == [0, 0, 1, 1, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_a_gradient_of_zero_has_no_direction() -> None:
    assert compare(torch.zeros(3), torch.ones(3)) is None
    assert compare(torch.ones(3), torch.zeros(3)) is None
    half = compare(torch.tensor([1.0, 0]), torch.tensor([2.0, 2]))
    assert half == pytest.approx((0.5**0.5, 1 / 8**0.5))


def test_a_line_says_what_a_step_sees() -> None:
    from support.accumulating import config

    koleo, plain = (Objective("triplet", TripletLoss(), KoLeo(), weight) for weight in (0.1, 0.0))
    words = ("trainer.accumulate_grad_batches=8", "data.batch_size=64", "loss=triplet_koleo")
    start = "micro-batch 64 triplets × window 8 × 1 device = 512 triplets a step"
    memory = (*words, "accumulation=memory")
    for asked, objective, end in (
        (words, koleo, "; KoLeo sees 192 embeddings"),
        ((*words, "accumulation=exact"), koleo, "; KoLeo sees 1536 embeddings"),
        (memory, koleo, "; KoLeo sees 192 embeddings and up to 1344 references without gradient"),
        (
            (*memory, "accumulation.size=500"),
            koleo,
            "; KoLeo sees 192 embeddings and up to 500 references without gradient",
        ),
        (words, plain, ""),
    ):
        assert statement(config(*asked), Triplets(), objective, 1) == start + end
    exact = statement(config(*words, "accumulation=exact"), Triplets(), koleo, 2)
    assert exact == "micro-batch 64 triplets × window 8 × 2 devices = 1024 triplets a step; KoLeo sees 3072 embeddings"
