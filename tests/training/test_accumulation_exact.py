"""Exact accumulation takes the step of one large batch."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.plugins.precision import MixedPrecision
from support.accumulating import (
    Keeper,
    NoisyState,
    Stop,
    assert_close,
    at_once,
    config,
    differences,
    exactly,
    first_window,
    fit,
    losses,
    make,
    weights,
)
from torch import Tensor, nn

from siamese.errors import ConfigError
from siamese.losses import KoLeo, Objective
from siamese.training.accumulation import Exact, Naive
from siamese.training.build import make_kind
from siamese.training.gradient_study.gradients import compare
from siamese.training.module import SiameseModule


def assert_same_steps(
    one: tuple[SiameseModule, Keeper], other: tuple[SiameseModule, Keeper], tolerance: float = 1e-10
) -> None:
    """The same gradients at every step, values of the loss, and weights at the end."""
    assert len(one[1].gradients) == len(other[1].gradients) == len(one[1].losses)
    for gradients, expected in zip(one[1].gradients, other[1].gradients, strict=True):
        assert_close(gradients, expected, tolerance)
    assert one[1].losses == pytest.approx(other[1].losses, rel=tolerance)
    assert_close(weights(one[0]), weights(other[0]), tolerance)


# An image that is twice in a window has a distance of 0 or of 1e-9, as rounding will have it. These losses make
# much of the difference: the mean over the terms that are not 0 counts it, the root of a square is steep there.
SMOOTH = {"cross_batch_memory": ("loss.loss.reducer=mean",)}
STEEP = {"generalized_lifted": 1e-8}


@pytest.mark.parametrize("loss", losses())
def test_every_loss_descends_as_one_large_batch(loss: str, tmp_path: Path) -> None:
    """35 triplets an epoch are a window of 5 and a short one of 4 micro-batches, the last of 3 triplets. A loss
    that is added to conf/loss is tested here by that alone."""
    words = (f"loss={loss}", "loss.koleo_weight=0.1", *SMOOTH.get(loss, ()))
    if make_kind(config(*words)).form == "balanced":
        assert_first_step_written_out(words, tmp_path)
        return
    one = exactly(*words, batch_size=4, window=5, where=tmp_path)
    assert_same_steps(one, at_once(*words, batch_size=4, window=5, where=tmp_path), STEEP.get(loss, 1e-10))
    assert len(one[1].gradients) == 5


def assert_first_step_written_out(words: tuple[str, ...], where: Path) -> None:
    """For class groups, of which no large batch can have more than there are classes."""
    (reference, data), batches = make(*words, batch_size=4), []
    for batch in itertools.islice(data.loader, 3):
        moved = data.on_after_batch_transfer(batch, 0)
        batches.append((reference.net(moved.images), moved.labels))
    z, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    reference.objective(z, labels, None)[0].backward()
    expected = {k: p.grad for k, p in reference.named_parameters() if p.grad is not None}
    _, kept = exactly(*words, batch_size=4, window=3, where=where, steps=1)
    assert_close(kept.gradients[0], expected, 1e-10)


@pytest.mark.parametrize("window", range(1, 9))
def test_windows_of_every_size_and_their_short_last_ones(window: int, tmp_path: Path) -> None:
    words = ("loss=triplet_batch_all", "loss.koleo_weight=0.5", "loss.koleo_over=per_role")
    cut = {"batch_size": 4, "window": window, "where": tmp_path, "seed": window, "steps": -(-9 // window) + 2}
    assert_same_steps(exactly(*words, **cut), at_once(*words, **cut))


def test_naive_accumulation_takes_another_step(tmp_path: Path) -> None:
    """What makes the tests above worth something: on the same windows the naive gradient is far off."""
    words = ("loss=triplet_koleo", "loss.koleo_weight=1")
    _, exact = exactly(*words, batch_size=4, window=4, where=tmp_path, steps=1)
    module, data = make(*words, batch_size=4, accumulation=Naive())
    naive = fit(module, data, tmp_path, window=4, steps=1)
    assert max(by for _, by in differences(naive.gradients[0], exact.gradients[0])) > 0.1


def with_proxies(batch_size: int, accumulation: Exact | Naive, where: Path, window: int) -> Any:
    module, data = make("loss=triplet_koleo", batch_size=batch_size)
    module.accumulation = accumulation
    module.objective = Objective("proxies", NoisyState(), KoLeo(), 0.1).double()
    return module, fit(module, data, where, window=window)


def test_a_loss_with_parameters_state_and_random_draws(tmp_path: Path) -> None:
    """Its parameters get their gradient once, its state moves once a window, its draws are those of one batch."""
    one, other = with_proxies(4, Exact(), tmp_path, 3), with_proxies(12, Naive(), tmp_path, 1)
    assert_same_steps(one, other)
    assert one[0].objective.base.calls == other[0].objective.base.calls == 5
    assert "objective.base.proxies" in one[1].gradients[0]


@pytest.mark.parametrize(
    "more",
    [
        {"gradient_clip_val": 0.01},
        {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"},
        {"scheduler": torch.optim.lr_scheduler.ExponentialLR},
        {"average": True},
    ],
    ids=["clip_norm", "clip_value", "scheduler", "ema"],
)
def test_what_lightning_does_around_a_step_is_as_with_one_large_batch(more: dict[str, Any], tmp_path: Path) -> None:
    def trained(batch_size: int, window: int, accumulation: Exact | Naive) -> tuple[SiameseModule, Keeper]:
        module, data = make("loss=triplet_koleo", batch_size=batch_size, accumulation=accumulation)
        settings = dict(more)
        if scheduler := settings.pop("scheduler", None):
            module.make_schedule = lambda optimizer, _: {"scheduler": scheduler(optimizer, 0.5), "interval": "step"}
        callbacks = [EMAWeightAveraging(decay=0.5)] if settings.pop("average", False) else []
        kept = fit(module, data, tmp_path, window=window, callbacks=callbacks, **settings)
        return module, kept

    one, other = trained(4, 3, Exact()), trained(12, 1, Naive())
    assert_same_steps(one, other)
    plain = exactly("loss=triplet_koleo", batch_size=4, window=3, where=tmp_path)
    assert max(by for _, by in differences(weights(one[0]), weights(plain[0]))) > 1e-6


def test_going_on_from_a_checkpoint_between_two_windows(tmp_path: Path) -> None:
    whole = at_once("loss=triplet_koleo", batch_size=4, window=2, where=tmp_path)
    stopped = [Stop(tmp_path / "two.ckpt", 2)]
    exactly("loss=triplet_koleo", batch_size=4, window=2, where=tmp_path, callbacks=stopped, steps=3)
    module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact(), seed=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    fit(module, data, tmp_path, window=2, ckpt_path=tmp_path / "two.ckpt")
    assert_close(weights(module), weights(whole[0]), 1e-10)


def test_float32(tmp_path: Path) -> None:
    kept = []
    for batch_size, accumulation, window in ((4, Exact(), 4), (16, Naive(), 1)):
        module, data = make("loss=triplet_koleo", batch_size=batch_size, accumulation=accumulation, dtype=torch.float32)
        kept.append((module, fit(module, data, tmp_path, window=window, precision="32-true")))
    (one, keeper), (other, expected) = kept
    assert_close(keeper.gradients[0], expected.gradients[0], 1e-5)
    assert_close(weights(one), weights(other), 1e-5)


@pytest.mark.parametrize(("kind", "tolerance"), [("bf16-mixed", 0.02), ("16-mixed", 0.003)])
def test_mixed_precision_and_its_scaler(kind: str, tolerance: float, tmp_path: Path) -> None:
    """The gradient of a step is that of float32 to the type's rounding, once the scale of a GradScaler is out."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12) if kind == "16-mixed" else None
    mixed = {"plugins": [MixedPrecision(kind, "cpu", scaler)]}
    found = {}
    for name, how in (("mixed", mixed), ("whole", {"precision": "32-true"})):
        module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact(), dtype=torch.float32)
        found[name] = fit(module, data, tmp_path, window=4, steps=2, **how)
    for gradients, expected in zip(found["mixed"].gradients, found["whole"].gradients, strict=True):
        one, other = (torch.cat([g.flatten() for g in each.values()]) for each in (gradients, expected))
        comparison = compare(one, other)
        assert comparison is not None
        assert comparison.cosine > 1 - tolerance
        assert comparison.norm_ratio == pytest.approx(1, abs=tolerance)


class Recording(nn.Module):
    """Dropout that keeps what it did to ones: its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.functional.dropout(torch.ones_like(x), 0.4, training=self.training)
        self.masks.append(mask)
        return x * mask


def by_hand(module: SiameseModule, batches: list[Any]) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss over all ``batches``, each embedded by itself but in one graph, and its gradients."""
    layout = module.data.layout
    z = layout.join([module.net(batch.images) for batch in batches])
    labels = layout.join([batch.labels for batch in batches])
    loss, _ = module.objective(z, labels, layout.tuples_of(labels))
    named = dict(module.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()))
    return loss, dict(zip(named, found, strict=True))


def test_dropout_is_the_same_in_both_passes_and_that_of_naive(tmp_path: Path) -> None:
    module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact(), more=Recording())
    expected, _ = make("loss=triplet_koleo", batch_size=4, more=Recording())
    torch.manual_seed(7)
    kept = fit(module, data, tmp_path, window=3, steps=1)
    after = torch.rand(1)
    masks = module.net.backbone.more.masks
    assert len(masks) == 5  # three, and the first two once more
    assert torch.equal(masks[0], masks[3])
    assert torch.equal(masks[1], masks[4])
    torch.manual_seed(7)
    batches = first_window(data, 3)
    loss, gradients = by_hand(expected, batches)
    assert all(torch.equal(a, b) for a, b in zip(masks, expected.net.backbone.more.masks, strict=False))
    assert torch.equal(after, torch.rand(1))  # and the draws after the window go on as if there had been one pass
    assert kept.losses[0] == pytest.approx(loss.item(), rel=1e-12)
    assert_close(kept.gradients[0], gradients, 1e-10)


def test_batch_norm_is_warned_of_once_and_its_statistics_move_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact(), more=nn.BatchNorm2d(6))
    expected, _ = make("loss=triplet_koleo", batch_size=4, more=nn.BatchNorm2d(6))
    with caplog.at_level(logging.WARNING):
        kept = fit(module, data, tmp_path, window=3, steps=2)
    assert [r.message for r in caplog.records if "BatchNorm" in r.message] == [
        "accumulation=exact: the network has BatchNorm, whose statistics stay those of each micro-batch; the step is "
        "that of the window's whole loss, but not exactly that of one large batch"
    ]
    assert int(module.net.backbone.more.num_batches_tracked) == 6
    batches = first_window(data, 3)
    _, gradients = by_hand(expected, batches)
    assert_close(kept.gradients[0], gradients, 1e-10)
    one, _ = make("loss=triplet_koleo", batch_size=4, accumulation=Exact(), more=nn.BatchNorm2d(6))
    fit(one, data, tmp_path, window=3, steps=1)
    another, _ = make("loss=triplet_koleo", batch_size=4, more=nn.BatchNorm2d(6))
    for batch in [batches[2], *batches[:2]]:  # the order of the second passes
        another.net(batch.images)
    assert torch.allclose(one.net.backbone.more.running_var, another.net.backbone.more.running_var, rtol=1e-12)


class SavedBytes:
    """The most bytes that graphs held at once for their backward passes, parameters apart."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = {p.untyped_storage().data_ptr() for p in module.parameters()}
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> Any:
        size = tensor.nbytes if tensor.untyped_storage().data_ptr() not in self.parameters else 0
        self.now += size
        self.most = max(self.most, self.now)
        held = [tensor]
        weakref.finalize(holder := Holder(held), self.free, size)
        return holder

    def free(self, size: int) -> None:
        self.now -= size


class Holder:
    def __init__(self, held: list[Tensor]) -> None:
        self.held = held


def peak(window: int, where: Path, accumulation: Callable[[], Any], batch_size: int = 4) -> int:
    module, data = make("loss=triplet_koleo", batch_size=batch_size, accumulation=accumulation())
    count = SavedBytes(module)
    with torch.autograd.graph.saved_tensors_hooks(count.pack, lambda holder: holder.held[0]):
        fit(module, data, where, window=window, steps=1)
    return count.most


def test_memory_grows_with_the_window_by_embeddings_only(tmp_path: Path) -> None:
    one, eight, whole = (peak(1, tmp_path, Exact), peak(8, tmp_path, Exact), peak(1, tmp_path, Naive, 32))
    embeddings = 8 * 12 * 5 * 8  # micro-batches × images × dimensions × bytes of a float64
    assert whole > 6 * one
    assert eight < one + 20 * embeddings
    assert eight < whole / 4


def test_every_micro_batch_but_the_last_is_embedded_twice(tmp_path: Path) -> None:
    module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact())
    passes = []
    module.net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    fit(module, data, tmp_path, window=4, steps=1)
    assert passes == [False] * 3 + [True] * 4


def test_manual_optimization_is_refused(tmp_path: Path) -> None:
    module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact())
    module.automatic_optimization = False
    with pytest.raises(ConfigError, match=r"accumulation\.mode=exact: .*manual optimization"):
        fit(module, data, tmp_path)
