"""Muon, an optimizer whose steps are as long in every direction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from siamese.training.precision import has_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the polynomial that brings singular values near 1
ROUNDS = 3  # of it; a few are enough, since a step need not be exactly orthogonal


class Muon(torch.optim.Optimizer):
    """For each weight matrix, and each convolution as a matrix of a row a filter, the nearest orthogonal matrix to the
    momentum of its gradient (Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks). What has
    one dimension, biases and norms, is trained by Adam (Kingma and Ba 2015, algorithm 1).

    A step turns a weight by ``lr`` of its length, and it keeps the length that it began with: weights that norms
    follow compute the same at any length, so there is nothing for a weight decay to do.

    Args:
        lr: the length of a step, as a share of the weight's; that of Adam is ``adam_lr``.
        momentum: of gradients, after Nesterov.
        betas, eps: Adam's.

    Raises:
        ValueError: for a momentum that is none.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.6,
        adam_lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum={momentum}: expected a share from 0 and below 1")
        given: list[Mapping[str, Any]] = [one if isinstance(one, Mapping) else {"params": [one]} for one in params]
        groups: list[dict[str, Any]] = []
        for group in given:
            matrices = [p for p in group["params"] if p.dim() > 1]
            others = [p for p in group["params"] if p.dim() < 2]
            rate: float = group.get("lr", lr)
            groups += [{"params": matrices, "lr": rate, "matrices": True}] if matrices else []
            groups += [{"params": others, "lr": adam_lr * (rate / lr), "matrices": False}] if others else []
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": (betas[0], betas[1]), "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            turn = self._turn if group["matrices"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    turn(parameter, parameter.grad, group)
        return loss

    def _turn(self, weight: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"], state["length"] = torch.zeros_like(weight), weight.norm()
        momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
        step = orthogonal(gradient.add(momentum, alpha=group["momentum"]).flatten(1)).view_as(weight)
        length = state["length"]
        weight.sub_(step * (group["lr"] * length / step.norm().clamp(min=group["eps"])))
        weight.mul_(length / weight.norm().clamp(min=group["eps"]))

    def _adam(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - first) / (1 - first ** state["step"].item())
        square = state["square"].lerp_(gradient.square(), 1 - second) / (1 - second ** state["step"].item())
        parameter.sub_(group["lr"] * mean / (square.sqrt() + group["eps"]))


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` [m, n] with its singular values brought near 1 (0.7 to 1.2, but for those that are tiny), by a
    polynomial of its products with itself (Newton-Schulz), in bfloat16 where the hardware has it: that is enough."""
    a, b, c = COEFFICIENTS
    x = matrix.to(narrow(matrix.device.type))
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.t()
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.t()).to(matrix.dtype)


@functools.cache
def narrow(device: str) -> torch.dtype:
    """bfloat16 where a ``device`` of this type has it here, else float32."""
    return torch.bfloat16 if has_bf16(device)[0] else torch.float32
