"""Accumulation with references, written out by hand, and how near it comes to exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.accumulating import Stop, assert_close, config, first_window, fit, make, weights

from siamese.losses import BatchAllTripletLoss, KoLeo, References
from siamese.losses.references import beside
from siamese.training.accumulation import Exact, Memory, Naive
from siamese.training.build import accumulation, make_kind
from siamese.training.gradient_study.gradients import compare
from siamese.training.module import SiameseModule
from siamese.training.preflight import _check_memory


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def by_hand(module: SiameseModule, batches: list[Any], size: int | None) -> dict[str, torch.Tensor]:
    """The gradient of a window: of each micro-batch's loss beside the embeddings before it, with respect to its
    own rows, in proportion to the rows that the loss saw."""
    named = dict(module.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    before: list[tuple[torch.Tensor, torch.Tensor]] = []
    for batch in batches:
        z = module.net(batch.images)
        rows = z.detach().requires_grad_()
        past = [torch.cat(parts)[-size if size else None :] for parts in zip(*before, strict=True)] or [
            rows[:0].detach(),
            batch.labels[:0],
        ]
        seen, labels = torch.cat([rows, past[0]]), torch.cat([batch.labels, past[1]])
        loss = BatchAllTripletLoss(0.4)(seen, labels, None) + 0.5 * KoLeo()(seen, labels, None)
        share = torch.autograd.grad(loss, rows)[0] * len(seen) / len(rows)
        for (name, _), gradient in zip(named.items(), torch.autograd.grad(z, list(named.values()), share), strict=True):
            total[name] += gradient / len(batches)
        before.append((z.detach(), batch.labels))
    return total


WORDS = ("loss=triplet_batch_all", "loss.koleo_weight=0.5")


@pytest.mark.parametrize("size", [None, 7])
def test_a_window_is_its_definition(size: int | None, tmp_path: Path) -> None:
    module, data = make(*WORDS, batch_size=4, accumulation=Memory(size=size))
    expected, _ = make(*WORDS, batch_size=4)
    kept = fit(module, data, tmp_path, window=3, steps=1)
    assert_close(kept.gradients[0], by_hand(expected, first_window(data, 3), size), 1e-10)


@pytest.mark.parametrize("loss", [KoLeo(), KoLeo(neighbours=3), BatchAllTripletLoss(0.4)])
def test_beside_all_others_a_batch_has_its_part_of_the_whole_gradient(loss: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20, 5, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.arange(20) % 3
    whole = loss(z, labels, None)
    rows = z[:8].detach().requires_grad_()
    seen = loss(*beside(rows, labels[:8], References(z[8:].detach(), labels[8:])), None)
    assert seen.item() == pytest.approx(whole.item(), rel=1e-12)
    part = torch.autograd.grad(whole, z)[0][:8]
    assert torch.allclose(torch.autograd.grad(seen, rows)[0], part * 20 / 8, rtol=1e-12)


@pytest.mark.parametrize("words", ["loss=lifted", "loss=larl", "loss=triplet_centroid", "loss=multi_similarity"])
def test_losses_that_look_at_labels_take_references(words: str, tmp_path: Path) -> None:
    """The second micro-batch of a window sees the first: another step than naive, and the size of one batch."""
    found = {}
    for name, mode in (("memory", Memory()), ("naive", Naive())):
        module, data = make(words, batch_size=4, accumulation=mode)
        found[name] = fit(module, data, tmp_path, window=2, steps=1)
    assert found["memory"].losses[0] == found["naive"].losses[0]
    assert found["memory"].losses[1] != found["naive"].losses[1]
    one, other = (flat(kept.gradients[0]) for kept in found.values())
    assert not torch.allclose(one, other, rtol=1e-3)


def test_memory_is_another_step_than_both_others(tmp_path: Path) -> None:
    found = {}
    for name, mode in (("exact", Exact()), ("memory", Memory()), ("naive", Naive())):
        module, data = make("loss=triplet_koleo", "loss.koleo_weight=1", batch_size=4, accumulation=mode)
        found[name] = flat(fit(module, data, tmp_path, window=8, steps=1).gradients[0])
    memory, naive = (compare(found[name], found["exact"]) for name in ("memory", "naive"))
    assert memory is not None
    assert naive is not None
    assert naive.cosine < memory.cosine < 0.9


def test_what_a_bank_holds(tmp_path: Path) -> None:
    for scope, size, rows in (("window", None, 3 * 12), ("window", 20, 20), ("persistent", 50, 50)):
        module, data = make(*WORDS, batch_size=4, accumulation=Memory(scope, size))
        module.make_optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
        fit(module, data, tmp_path, window=3, steps=2)
        bank = module.accumulation.bank
        batches = first_window(data, 6)
        with torch.no_grad():
            embeddings = torch.cat([module.net(batch.images) for batch in batches])
        assert torch.allclose(bank.embeddings, embeddings[-rows:], rtol=1e-12)
        assert torch.equal(bank.labels, torch.cat([batch.labels for batch in batches])[-rows:])
        assert not bank.embeddings.requires_grad


def test_the_bank_is_in_the_checkpoint_and_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def started(seed: int = 0) -> tuple[SiameseModule, Any]:
        return make(*WORDS, batch_size=4, accumulation=Memory("persistent", 30), dtype=torch.float32)

    path, single = tmp_path / "two.ckpt", {"precision": "32-true", "window": 2}
    whole, data = started()
    fit(whole, data, tmp_path, callbacks=[Stop(path, 2)], **single)
    saved = torch.load(path, weights_only=True)["accumulation"]
    assert {name: tuple(value.shape) for name, value in saved.items()} == {"embeddings": (30, 5), "labels": (30,)}
    module, data = started()
    fit(module, data, tmp_path, ckpt_path=path, **single)
    assert all(torch.equal(a, b) for a, b in zip(weights(module).values(), weights(whole).values(), strict=True))
    assert torch.equal(module.accumulation.bank.embeddings, whole.accumulation.bank.embeddings)


def test_the_configuration_makes_the_mode() -> None:
    windowed = ("trainer.accumulate_grad_batches=2", "accumulation=memory", "loss.koleo_weight=0.1")
    for words, kind, has in (
        ((), Naive, {"rescale_last_window": True}),
        (("accumulation.rescale_last_window=false",), Naive, {"rescale_last_window": False}),
        (("accumulation=exact",), Exact, {}),
        (windowed, Memory, {"scope": "window", "size": None}),
        (
            (*windowed, "accumulation.scope=persistent", "accumulation.size=9"),
            Memory,
            {"scope": "persistent", "size": 9},
        ),
    ):
        asked = config(*words)
        _check_memory(asked, make_kind(asked))
        mode = accumulation(asked)
        assert type(mode) is kind
        assert {name: getattr(mode, name) for name in has} == has
