"""Every model from random weights: parameters, feature map and forward time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import ROOT
from benchmarks.setup import BATCH, Setup
from benchmarks.timing import interleaved, result
from siamese.config.targets import make


def models(setup: Setup) -> list[dict[str, Any]]:
    """Every model from random weights: its parameters, what its backbone ends with, and the forward time."""
    images = torch.randint(256, (BATCH, 3, 32, 32), dtype=torch.uint8)
    sides: dict[str, Callable[[], float]] = {}
    for file in sorted((ROOT / "conf" / "model").glob("*.yaml")):
        if "???" in file.read_text():  # any network, by its name
            continue
        config = setup.config(f"model={file.stem}", "device=cpu")
        net = make("model", config.model, mean=[0.5] * 3, std=[0.5] * 3, image_size=32).eval()
        net = net.to(memory_format=torch.channels_last)
        ends = "×".join(map(str, net.backbone(torch.zeros(1, 3, 32, 32)).shape[1:]))
        parameters = sum(p.numel() for p in net.parameters())
        sides[f"{file.stem}: {parameters:,} parameters, {ends}"] = partial(seconds_forward, net, images)
    samples = interleaved(sides, setup.repeats)
    return [result(f"{what}; forward of {BATCH} images", "s", found, "<", None) for what, found in samples.items()]


@torch.inference_mode()
def seconds_forward(net: nn.Module, images: Tensor) -> float:
    """Seconds to embed ``images`` once."""
    began = time.perf_counter()
    net(images)
    return time.perf_counter() - began
