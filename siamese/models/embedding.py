"""From uint8 images to L2-normalised embeddings: normalise, backbone, mean over space, linear, L2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class EmbeddingNet(nn.Module):
    """``backbone`` [N, 3, H, W] → [N, F, h, w], averaged over space, projected and normalised.

    The normalisation of the pixels belongs to the network (buffers ``mean`` and ``std``), so that a
    checkpoint embeds any uint8 image without knowing what it was trained on.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, features: int, embedding_dim: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Linear(features, embedding_dim)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, images: Tensor) -> Tensor:
        """Embed uint8 [N, 3, H, W]; returns [N, embedding_dim], rows of length 1, float32 or wider."""
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        z = self.projection(self.backbone(x).mean((2, 3)))
        with torch.autocast(z.device.type, enabled=False):
            wide = z if z.dtype == torch.float64 else z.float()
            return nn.functional.normalize(wide, dim=1)
