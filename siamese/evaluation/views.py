"""Finding an image's other view among all images: what can be measured where images have no classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from siamese.evaluation.names import VIEW_RECALL_AT

BLOCK_ENTRIES = 1 << 22  # cosines held at a time
SAME = 1e-9  # a difference of cosines below it is that of rounding


def view_retrieval(embeddings: Tensor, views: Tensor) -> dict[str, float]:
    """How well each of ``views`` [N, D] finds its image among ``embeddings`` [N, D], by cosine.

    Its rank is the number of images that are at least as near to it as its own, so that an embedding that sends all
    images to one place finds none. view_recall_at_k: the share of ranks up to k. view_mrr: the mean of 1 / rank.
    """
    images, queries = normalize(embeddings.double(), dim=1), normalize(views.double(), dim=1)
    ranks = []
    for start in range(0, len(queries), max(1, BLOCK_ENTRIES // len(images))):
        block = queries[start : start + max(1, BLOCK_ENTRIES // len(images))]
        cosines = block @ images.T
        own = cosines[torch.arange(len(block)), torch.arange(start, start + len(block))]
        ranks.append((cosines >= own[:, None] - SAME).sum(1))
    rank = torch.cat(ranks).double()
    recall = {f"view_recall_at_{k}": (rank <= k).double().mean().item() for k in VIEW_RECALL_AT}
    return {**recall, "view_mrr": (1 / rank).mean().item()}
