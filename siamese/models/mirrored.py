"""The embedding of an image that does not depend on which way round it is."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def embed(net: Any, images: Tensor, *, flip: bool) -> Tensor:
    """The embeddings [N, D] that ``net``, an :class:`~siamese.models.EmbeddingNet`, gives uint8 ``images``
    [N, 3, H, W]; with ``flip`` the mean of those of each image and of its mirror image (left to right), which is of
    length 1 again where the network's are."""
    embeddings: Tensor = net(images)
    if not flip:
        return embeddings
    mean = (embeddings + net(images.flip(3))) / 2
    return nn.functional.normalize(mean, dim=1) if net.normalize else mean
