"""How near a training step comes to the rate at which the same machine multiplies matrices."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import now, paired_ratios, result

SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices, large enough that nothing but multiplying counts
PRODUCTS = {"cpu": 4, "cuda": 50}  # of a turn
WANTED = 0.8


def flop_of(loss: Callable[[], Tensor]) -> int:
    """Multiplications and additions (two for each pair) of the convolutions and matrix products of ``loss`` and of its
    backward pass: what the formulas have, whatever computes it."""
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    return counter.get_total_flops()


@cache
def _matrices(side: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    return [torch.randn(side, side, device=device).to(dtype) for _ in range(3)]


def seconds_a_product(device: str, dtype: torch.dtype) -> float:
    """Seconds of one product of two square matrices of ``dtype``, of :data:`SIDES` rows: the mean of a turn, with the
    threads that torch has."""
    a, b, product = _matrices(SIDES[device], device, dtype)
    with _as_convolutions_are(device):
        began = now(device)
        for _ in range(PRODUCTS[device]):
            torch.mm(a, b, out=product)
        return (now(device) - began) / PRODUCTS[device]


@contextmanager
def _as_convolutions_are(device: str) -> Iterator[None]:
    """Products in float32 on a card as its convolutions are, which torch computes in TF32 unless it is told not to."""
    before = torch.get_float32_matmul_precision()
    if device == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def share_reached(what: str, device: str, flop: int, seconds: list[float], product: list[float]) -> dict[str, Any]:
    """The share of the rate of matrix products, which take ``product`` seconds, that ``what`` reaches, which has
    ``flop`` operations and takes ``seconds``."""
    of_product = 2 * SIDES[device] ** 3
    shares = paired_ratios([flop / one for one in seconds], [of_product / one for one in product])
    took, rate = statistics.median(seconds), of_product / statistics.median(product)
    name = f"rate of {what}, of this machine's matrix products"
    found = result(name, "×", shares, "≥", WANTED, seconds=seconds, product=product)
    note = (
        f"{what} reaches {statistics.median(shares):.0%} of this machine's {rate / 1e9:,.0f} GFLOP/s of matrix "
        f"products ({flop / 1e9:,.3g} GFLOP in {took:.3g} s)"
    )
    return found | {"note": note}
