"""KoLeo: the regulariser that pushes every embedding away from its nearest neighbour."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import blocks

EPSILON = 1e-8


def koleo(embeddings: Tensor, neighbours: int = 1) -> Tensor:
    """The Kozachenko–Leonenko regulariser of [N, D] embeddings.

    ``−(1/N) Σ_i log(d_i + 1e-8)``, d_i the Euclidean distance of the L2-normalised row i to its
    nearest other row; with ``neighbours=k``, the mean over its k nearest (Sablayrolles et al. 2019,
    Spreading vectors for similarity search, equation 3; several neighbours as in DINOv2's
    distributed version). Computed in float32, or float64 when given it, with autocast off.

    A distance below the resolution of the input's type says nothing about a direction: it counts
    with its value and has no gradient, which keeps the gradient finite on duplicate rows.

    Raises:
        ValueError: for fewer than ``neighbours + 1`` rows.
    """
    if len(embeddings) <= neighbours:
        raise ValueError(
            f"KoLeo with {neighbours} neighbour{'s' * (neighbours > 1)} needs at least "
            f"{neighbours + 1} embeddings, found {len(embeddings)}"
        )
    resolution = torch.finfo(embeddings.dtype).eps
    with torch.autocast(embeddings.device.type, enabled=False):
        wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        z = nn.functional.normalize(wide, dim=1)
        nearest = _nearest(z.detach(), neighbours)
        d = torch.linalg.vector_norm(z.unsqueeze(1) - z[nearest], dim=2)
        d = torch.where(d > resolution, d, d.detach())
        return -torch.log(d + EPSILON).mean()


def _nearest(z: Tensor, k: int) -> Tensor:
    """Positions [N, k] of the k rows with the largest dot product, the row itself apart."""
    found = []
    for rows in blocks(len(z), len(z)):
        block = z[rows] @ z.t()
        block.diagonal(rows.start).fill_(float("-inf"))
        found.append(block.topk(k, dim=1).indices)
    return torch.cat(found)


class KoLeo(Loss):
    """:func:`koleo` over ``over``: ``all`` embeddings, the ``anchors``, or ``per_role`` (the mean of
    its values over anchors, positives and negatives apart)."""

    def __init__(self, over: str = "all", neighbours: int = 1) -> None:
        super().__init__()
        self.over, self.neighbours = over, neighbours
        self.uses_tuples = over != "all"  # they say who has which role

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        roles = self.roles(len(embeddings), indices_tuple)
        if self.over == "all":
            return koleo(embeddings, self.neighbours)
        return torch.stack([koleo(embeddings[index], self.neighbours) for index in roles]).mean()

    def roles(self, count: int, indices_tuple: tuple[Tensor, ...] | None) -> list[Tensor]:
        """The positions that each KoLeo sees; an embedding that is in several tuples counts once.

        Raises:
            ValueError: for roles without tuples, which say who has them.
        """
        if self.over == "all":
            return [torch.arange(count)]
        if indices_tuple is None:
            raise ValueError(f"KoLeo over {self.over} needs tuples, which say who has which role")
        chosen = indices_tuple[:1] if self.over == "anchors" else indices_tuple
        return [index.unique() for index in chosen]
