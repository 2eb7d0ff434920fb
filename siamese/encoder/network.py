"""Embedding pixels on one device: in one precision, as many at a time as memory allows, in any thread, and in forked
processes."""

from __future__ import annotations

import contextlib
import logging
import os

import torch
from torch import Tensor

from siamese.errors import RunError
from siamese.memory import is_out_of_memory
from siamese.models.embedding import EmbeddingNet

log = logging.getLogger(__name__)

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Network:
    """``net`` in evaluation mode on ``device``, in one of the precisions of ``device.precision``.

    Attributes:
        batch_size: images at a time; halved whenever memory does not suffice.
        normalize: whether embeddings are of length 1.
    """

    def __init__(self, net: EmbeddingNet, device: torch.device, precision: str, batch_size: int) -> None:
        net = net.to(device).requires_grad_(False).eval()
        self.net = net.double() if precision == "64-true" else net
        self.device, self.precision, self.batch_size = device, precision, batch_size
        self.normalize = net.normalize
        self._dimensions, self._process = net.embedding_dim, os.getpid()

    def __call__(self, pixels: Tensor) -> Tensor:
        """Embed ``pixels``, uint8 [N, 3, H, W]: float32 [N, D].

        Raises:
            RunError: where memory does not suffice for a single image, and in a process forked from one that uses a
                device other than the CPU.
        """
        self._settle()
        start, vectors = 0, [torch.empty(0, self._dimensions)]
        while start < len(pixels):
            some = pixels[start : start + self.batch_size]
            try:
                vectors.append(self._embed(some))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(some) == 1:
                    raise RunError(f"too little memory is free on {self.device} to embed one image") from None
                self.batch_size = len(some) // 2
            else:
                start += len(some)
                continue
            if self.device.type == "cuda":  # once the exception, which holds what was computed, is gone
                torch.cuda.empty_cache()
            log.warning("too little memory on %s: %s at a time from here on", self.device, f"{self.batch_size:,}")
        return torch.cat(vectors)

    def _embed(self, pixels: Tensor) -> Tensor:
        kind = AUTOCAST.get(self.precision)
        cast = contextlib.nullcontext() if kind is None else torch.autocast(self.device.type, kind)
        with torch.inference_mode(), cast:
            return self.net(pixels.to(self.device)).float().cpu()

    def _settle(self) -> None:
        """Make it work in a forked process, in which the threads of the other are gone."""
        if os.getpid() == self._process:
            return
        if self.device.type != "cpu":
            raise RunError(
                f"{self.device} cannot be used by a process that is forked from the one that uses it; call load_run in "
                "the new process, or load_run(…, device='cpu') before"
            )
        torch.set_num_threads(1)  # more would wait for OpenMP's, for ever
        self._process = os.getpid()
