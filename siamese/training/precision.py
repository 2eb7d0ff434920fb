"""What ``device.precision=auto`` is on this machine, and what bfloat16 costs where the hardware does not have it."""

from __future__ import annotations

import dataclasses
import logging
import platform
import re
import time
from pathlib import Path

import torch
from torch import nn

from siamese.config.schema import Config

log = logging.getLogger(__name__)

BF16, FLOAT32 = "bf16-mixed", "32-true"
CUDA_FROM = (8, 0)  # the first compute capability with bfloat16
TRIALS = 3


def settled(config: Config) -> Config:
    """``config`` with the precision that ``auto`` is here, said in a line; a line too where bfloat16 is asked for by
    name and this hardware does not have it."""
    device = config.device
    has, why = has_bf16(device.accelerator)
    if device.precision == BF16 and not has:
        log.warning(
            "device.precision=%s: %s; a convolution took %.1f times as long as in float32 in a short trial "
            "(expected device.precision=auto or %s)",
            *(BF16, why, cost_of_bf16(), FLOAT32),
        )
    if device.precision != "auto":
        return config
    found = precision_of(config)
    log.info("device.precision=auto: %s, since %s", found, why)
    return dataclasses.replace(config, device=dataclasses.replace(device, precision=found))


def precision_of(config: Config) -> str:
    """Lightning's name of the precision of ``config``, ``auto`` being bfloat16 where the hardware has it."""
    if config.device.precision != "auto":
        return config.device.precision
    return BF16 if has_bf16(config.device.accelerator)[0] else FLOAT32


def has_bf16(accelerator: str) -> tuple[bool, str]:
    """Whether the device that ``accelerator`` (of ``device.accelerator``) means here computes in bfloat16, and what
    it has or lacks, in words."""
    if accelerator in ("auto", "cuda") and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        wanted = "" if (major, minor) >= CUDA_FROM else f", below {CUDA_FROM[0]}.{CUDA_FROM[1]}"
        return not wanted, f"this GPU has compute capability {major}.{minor}{wanted}"
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return False, "an Apple GPU is trained in float32"
    found = [name for name, there in _of_cpu().items() if there]
    if found:
        return True, f"this CPU has {' and '.join(found)}"
    return False, "this CPU has neither AMX nor AVX512-BF16"


def processor() -> str:
    """What the processor calls itself, and what it has for bfloat16; runs on two kinds differ in their last digits."""
    file = Path("/proc/cpuinfo")  # of Linux; elsewhere Python knows
    model = re.search(r"^model name\s*: (.+)$", file.read_text(), re.MULTILINE) if file.exists() else None
    name = model[1] if model else platform.processor() or platform.machine()
    there = [feature for feature, has in _of_cpu().items() if has]
    return " with ".join([name, *([" and ".join(there)] if there else [])])


def _of_cpu() -> dict[str, bool]:
    there = torch.cpu.get_capabilities()
    return {"AMX": bool(there.get("amx_bf16")), "AVX512-BF16": bool(there.get("avx512_bf16"))}


def cost_of_bf16() -> float:
    """How many times as long a small convolution and its gradient take in bfloat16 on this CPU as in float32: the
    best of a few trials of each, a fraction of a second."""
    layer, images = nn.Conv2d(32, 32, 3, padding=1, bias=False), torch.zeros(16, 32, 16, 16)
    took = {}
    for kind in (torch.float32, torch.bfloat16):
        times = []
        for _ in range(TRIALS + 1):  # the first prepares what it needs
            begin = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == torch.bfloat16):
                layer(images).float().sum().backward()
            times.append(time.perf_counter() - begin)
        took[kind] = min(times[1:])
    return took[torch.bfloat16] / took[torch.float32]
