"""Decay of weights alone, and Muon, against torch's own and the definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from siamese.errors import ConfigError
from siamese.training.groups import cut, make_optimizer, trained
from siamese.training.muon import Muon, orthogonal

ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.5}


class Net(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_decay_of_weights_leaves_biases_and_norms_alone() -> None:
    net, proxies = Net(), nn.ParameterList([torch.randn(3, 2), torch.randn(1)])
    optimizer = make_optimizer({**ADAMW, "decay": "weights"}, trained(net, proxies, 0.2))
    before = {name: p.detach().clone() for name, p in [*net.named_parameters(), *proxies.named_parameters()]}
    for parameter in (*net.parameters(), *proxies.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in [*net.named_parameters(), *proxies.named_parameters()]:
        rate = 0.2 if name in ("0", "1") else 0.1
        expected = before[name] * (1 - rate * 0.5) if parameter.dim() > 1 else before[name]
        assert torch.allclose(parameter, expected), name


def test_decay_of_all_is_the_optimizers_own() -> None:
    net = Net()
    optimizer = make_optimizer({**ADAMW, "decay": "all"}, trained(net, nn.Module(), None))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.5]
    assert [len(group["params"]) for group in optimizer.param_groups] == [6]


def test_a_group_without_biases_is_one() -> None:
    only = {"params": [nn.Parameter(torch.ones(2, 2))], "lr": 0.3}
    assert cut(only) == [only]


def test_an_optimizer_without_a_decay_cannot_leave_it_away() -> None:
    node = {"_target_": "siamese.training.muon.Muon", "lr": 0.1, "decay": "weights"}
    with pytest.raises(ConfigError, match=r"^optimizer\.decay=weights: siamese\.training\.muon\.Muon is given no"):
        make_optimizer(node, trained(Net(), nn.Module(), None))


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_a_step_is_nearly_the_nearest_orthogonal_matrix(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    nearest = u @ v
    cosine = (found * nearest).sum() / found.norm() / nearest.norm()
    assert cosine > 0.95
    assert torch.equal(orthogonal(matrix * 2**20), found)


def test_muon_turns_a_weight_by_its_rate_and_keeps_its_length() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4, 3, 3))
    optimizer, length = Muon([weight], lr=0.05), weight.norm().item()
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    assert weight.norm().item() == pytest.approx(length)
    turned = torch.acos((weight * before).sum() / length**2).item()
    assert turned == pytest.approx(0.05, rel=0.2)


def test_muon_trains_biases_as_adam_does() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Parameter(torch.randn(7)), nn.Parameter(torch.zeros(7))
    theirs.data.copy_(ours)
    pair = Muon([ours], lr=0.1, adam_lr=0.02), torch.optim.Adam([theirs], lr=0.02)
    for _ in range(6):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        for optimizer in pair:
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_muon_keeps_the_rates_of_groups_in_proportion() -> None:
    net, loss = Net(), nn.ParameterList([torch.randn(3, 2), torch.randn(1)])
    groups = Muon(trained(net, loss, 0.4), lr=0.2, adam_lr=0.01).param_groups
    assert [(group["matrices"], group["lr"]) for group in groups] == [
        *((True, 0.2), (False, 0.01)),
        *((True, 0.4), (False, 0.02)),
    ]
