"""Losses of a positive pair against many negatives at once: N-pair, constellation, instance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.pairwise import blocks, masked_logsumexp, mean, relations

softplus = nn.functional.softplus


class NPairLoss(Loss):
    """Mean over pairs (a, p) of ``log(1 + Σ_n exp(a·n − a·p))``, plus ``l2_weight/2`` times the mean ``‖z‖²``.

    Sohn 2016 (Improved deep metric learning with multi-class N-pair loss objective), equation 6, which
    is the cross-entropy of the pairs over the batch, and the L2 term of its section 3.2.2, over anchors
    and positives. Embeddings count as they come: of normalised ones the L2 term is constant.
    """

    def __init__(self, l2_weight: float = 0.02) -> None:
        super().__init__()
        self.l2_weight = l2_weight

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N].

        Given triplets ``(a, p, n)`` or pairs ``(a1, p, a2, n)``, its pairs are (a, p), and the negatives of
        an anchor are, as in the paper, the other pairs' positives; those of its own label are left out,
        and the drawn n are not used. With None, every ordered pair of one label counts, against every
        embedding of another label. Zero, but for the L2 term, where there are no pairs or no negatives.
        """
        z = embeddings
        if indices_tuple is None:
            return over_all_pairs(z, labels) + self._l2(z)
        a, p = indices_tuple[:2]
        total = z.sum() * 0
        for rows in blocks(len(a), len(p)):
            dot = z[a[rows]] @ z[p].t()
            against = masked_logsumexp(dot, labels[a[rows], None] != labels[p])
            total = total + softplus(against - dot.diagonal(rows.start)).sum()
        return total / max(len(a), 1) + self._l2(z[torch.cat([a, p])])

    def _l2(self, z: Tensor) -> Tensor:
        return self.l2_weight / 2 * mean(z.square().sum(1))


class ConstellationLoss(Loss):
    """Mean over pairs (a, p) of ``log(1 + Σ_k exp(a·n_k − a·p))`` over K negatives of the anchor.

    Medela and Picón 2019 (Constellation loss: improving the efficiency of deep metric learning loss
    functions for optimal embedding), section 3. The paper draws the K negatives at random from the
    batch; here they are the K with the largest a·n, which make up most of that sum, so that the value
    is a function of the batch alone. An anchor with fewer negatives than K takes all it has.
    """

    def __init__(self, negatives: int = 8) -> None:
        super().__init__()
        self.negatives = negatives

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N], over the pairs (a, p) of triplets
        ``(a, p, n)`` or pairs ``(a1, p, a2, n)``; with None, over every ordered pair of one label. The
        negatives are chosen among all embeddings of another label, drawn as n or not. Zero where there
        are no pairs or no negatives."""
        z, k = embeddings, self.negatives
        if indices_tuple is None:
            return over_all_pairs(z, labels, largest=k)
        a, p = indices_tuple[:2]
        total = z.sum() * 0
        for rows in blocks(len(a), len(z)):
            dot = z[a[rows]] @ z.t()
            against = masked_logsumexp(dot, labels[a[rows], None] != labels, k)
            total = total + softplus(against - dot.gather(1, p[rows, None])[:, 0]).sum()
        return total / max(len(a), 1)


class InstanceLoss(Loss):
    """Mean of ``−log(exp(γ·cos(i, j)) / (exp(γ·cos(i, j)) + Σ_k exp(γ·cos(i, k))))`` over the ordered pairs
    (i, j) of one instance, with k over the embeddings of all other instances.

    The instance loss (Zheng et al. 2020, Dual-path convolutional image-text embeddings with instance
    loss) makes every instance a class; what stands for the weights of that class is here the instance's
    other view in the batch, as in the softmax without parameters of Wu et al. 2018 (Unsupervised feature
    learning via non-parametric instance discrimination), equation 2, with γ for 1/τ.
    """

    def __init__(self, gamma: float = 10.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D]. Which are of one instance is said by ids, never by their order:
        given tuples ``(a, p, …)``, those that pairs (a, p) tie to each other, and ``labels`` are not
        used. With None, ``labels`` [N] are the instance ids. Zero where no instance has two embeddings,
        or all are one."""
        z = nn.functional.normalize(embeddings, dim=1)
        ids = labels if indices_tuple is None else _tied(len(z), *indices_tuple[:2])
        return over_all_pairs(z, ids, self.gamma)


def _tied(count: int, a: Tensor, p: Tensor) -> Tensor:
    """Ids [count], equal for what the pairs (a, p) tie, directly or through others."""
    ids, joined = torch.full_like(a, -1), torch.arange(count, device=a.device)
    while not torch.equal(ids, joined):
        ids = joined
        joined = ids.scatter_reduce(0, p, ids[a], "amin")
        joined = joined.scatter_reduce(0, a, joined[p], "amin")
    return ids


def over_all_pairs(z: Tensor, labels: Tensor, scale: float = 1.0, largest: int | None = None) -> Tensor:
    """Mean of ``log(1 + Σ_k exp(s_ik − s_ij))`` over the ordered pairs (i, j) of one label, with
    ``s = scale·z·zᵀ`` and k over the embeddings of another label, or over those ``largest`` in s_ik."""
    total, pairs = z.sum() * 0, 0
    for rows in blocks(len(z), len(z)):
        s = scale * z[rows] @ z.t()
        positive, negative = relations(labels, rows)
        against = masked_logsumexp(s, negative, largest)
        total = total + torch.where(positive, softplus(against[:, None] - s), 0).sum()
        pairs += int(positive.sum())
    return total / max(pairs, 1)
