"""The softmax over proxies against its formula, with and without smoothing."""

from __future__ import annotations

import math

import pytest
import torch
from support.accumulating import config
from torch import nn

from siamese.errors import ConfigError
from siamese.losses import ProxySoftmaxLoss, traits
from siamese.losses.make import make_loss


@pytest.mark.parametrize(("temperature", "smoothing"), [(0.1, 0.1), (0.5, 0.0), (1.0, 0.7)])
def test_the_loss_is_its_formula(temperature: float, smoothing: float) -> None:
    torch.manual_seed(0)
    loss = ProxySoftmaxLoss(4, 6, temperature, smoothing).double()
    z, labels = torch.randn(9, 6, dtype=torch.float64) * 3, torch.arange(9) % 4
    total = 0.0
    for row, label in zip(z, labels.tolist(), strict=True):
        cosines = [float(row @ p / row.norm() / p.norm()) / temperature for p in loss.proxies.detach()]
        logarithms = [c - math.log(sum(map(math.exp, cosines))) for c in cosines]
        total -= (1 - smoothing) * logarithms[label] + smoothing * sum(logarithms) / 4
    assert loss(z, labels, None).item() == pytest.approx(total / 9)


def test_equal_parts_of_a_batch_have_the_loss_of_the_whole_between_them() -> None:
    torch.manual_seed(0)
    loss, z, labels = ProxySoftmaxLoss(3, 5), torch.randn(8, 5), torch.arange(8) % 3
    parts = [loss(z[i : i + 4], labels[i : i + 4], None) for i in (0, 4)]
    assert torch.allclose(loss(z, labels, None), torch.stack(parts).mean())
    assert not traits(loss).batch_dependent


def test_proxies_learn_and_may_have_any_length() -> None:
    torch.manual_seed(0)
    loss, z, labels = ProxySoftmaxLoss(3, 5), torch.randn(8, 5), torch.arange(8) % 3
    before = loss(z, labels, None)
    before.backward()
    assert loss.proxies.grad is not None
    assert loss.proxies.grad.norm() > 0
    loss.proxies.data *= torch.tensor([[0.1], [2.0], [30.0]])
    assert torch.allclose(loss(z, labels, None), before)


def test_the_sum_is_the_softmax_and_a_share_of_supcon() -> None:
    node = config("loss=proxy_softmax_supcon").loss
    torch.manual_seed(0)
    both = make_loss(node, 3, 5)
    z, labels = nn.functional.normalize(torch.randn(12, 5), dim=1), torch.arange(12) % 3
    cosines = z @ z.t() / 0.1
    same = (labels[:, None] == labels) & ~torch.eye(12, dtype=torch.bool)
    others = cosines.masked_fill(torch.eye(12, dtype=torch.bool), -torch.inf)
    logarithms = cosines - others.logsumexp(1, keepdim=True)
    supcon = -((logarithms * same).sum(1) / same.sum(1)).mean()
    proxies = both.losses["proxies"]  # type: ignore[index, union-attr]
    assert isinstance(proxies, ProxySoftmaxLoss)
    softmax = nn.functional.cross_entropy(
        z @ nn.functional.normalize(proxies.proxies, dim=1).t() / 0.1, labels, label_smoothing=0.1
    )
    assert torch.allclose(both(z, labels, None), softmax + 0.3 * supcon)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    node = {**config("loss=proxy_softmax").loss, "label_smoothing": share}
    with pytest.raises(ConfigError, match=r"label_smoothing=.*expected a share from 0 and below 1"):
        make_loss(node, 3, 5)
