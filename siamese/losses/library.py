"""Losses of pytorch-metric-learning that need a correction before they can train here, or be resumed.

Each is the library's own where that gives a finite and right value, and differs only where it says
so; every other loss of the library is used as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning import losses, reducers
from pytorch_metric_learning.utils.common_functions import labels_required, ref_not_supported
from pytorch_metric_learning.utils.loss_and_miner_utils import convert_to_weights, get_all_pairs_indices
from torch import Tensor, nn


class MeanReducer(reducers.MeanReducer):
    """The mean of all terms; zero, not NaN, where there is none (NCA on a batch without positives)."""

    def reduce_the_loss(
        self, losses: Any, loss_indices: Any, reduction_type: str, kwargs: Any, embeddings: Tensor, labels: Tensor
    ) -> Tensor:
        if torch.is_tensor(losses) and not losses.numel():
            return self.zero_loss(embeddings)
        return super().reduce_the_loss(losses, loss_indices, reduction_type, kwargs, embeddings, labels)


class TupletMarginLoss(losses.TupletMarginLoss):
    """Yu and Tao 2019 (Deep metric learning with tuplet margin loss), section 3.

    The library's value is NaN for an anchor that equals its positive, which rounding may give a
    cosine above 1, and its gradient too; here cosines are kept off ±1.
    """

    def _compute_loss(self, pos_pairs: Any, neg_pairs: Any, indices_tuple: Any) -> Any:
        if torch.is_tensor(pos_pairs):
            limit = 1 - 2 * torch.finfo(pos_pairs.dtype).eps
            pos_pairs = pos_pairs.clamp(-limit, limit)
        return super()._compute_loss(pos_pairs, neg_pairs, indices_tuple)


class SmoothAPLoss(losses.SmoothAPLoss):
    """Brown et al. 2020 (Smooth-AP), section 3: of every query, with itself in its class as in the
    authors' code, the mean over its class of the smooth rank within the class by that within the batch.

    The library is right only for labels that come class after class, with as many classes as images
    a class; this holds for any labels in any order, and holds a matrix of (pairs of one class) × N
    where the library has N × N × N.
    """

    def compute_loss(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Any, ref_emb: Tensor, ref_labels: Tensor
    ) -> dict[str, dict[str, Any]]:
        """The terms ``1 − AP`` [N] of ``embeddings`` [N, D] with ``labels`` [N].

        Raises:
            ValueError: without labels, or with references.
        """
        labels_required(labels)
        ref_not_supported(embeddings, labels, ref_emb, ref_labels)
        similarity = self.distance(embeddings)
        same = labels[:, None] == labels
        query, item = torch.where(same)
        ahead = torch.sigmoid((similarity[query] - similarity[query, item, None]) / self.temperature)
        ahead = ahead.scatter(1, item[:, None], 0.0)
        ratio = (1 + (ahead * same[query]).sum(1)) / (1 + ahead.sum(1))
        precision = torch.zeros_like(similarity[0]).index_add(0, query, ratio) / same.sum(1)
        weights = convert_to_weights(indices_tuple, labels, dtype=precision.dtype)
        terms = (1 - precision) * weights
        indices = torch.arange(len(terms), device=terms.device)
        return {"ap_loss": {"losses": terms, "indices": indices, "reduction_type": "element"}}


class VICRegLoss(losses.VICRegLoss):
    """Bardes, Ponce and LeCun 2022 (VICReg), equation 6, of two views: the anchors Z and the positives Z' of
    the tuples, each pair once whichever way round it comes, labels not being used; or, as in the library,
    ``embeddings`` and ``ref_emb``, row by row.

    Its variance and covariance need two pairs: the loss of fewer is zero.
    """

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of ``embeddings`` [N, D] over ``(a, p, n)`` or ``(a1, p, a2, n)``, or beside ``ref_emb`` [N, D].

        Raises:
            ValueError: without tuples or references, since labels alone name no two views; for references
                with tuples or labels, which would name others.
        """
        if ref_emb is None:
            if indices_tuple is None:
                raise ValueError("VICReg needs two views, anchors and positives; labels alone do not name them")
            pairs = torch.stack(indices_tuple[:2]).sort(dim=0).values.unique(dim=1)
            embeddings, labels, indices_tuple, ref_emb = embeddings[pairs[0]], None, None, embeddings[pairs[1]]
        if len(embeddings) < 2:
            return embeddings.sum() * 0
        return super().forward(embeddings, labels, indices_tuple, ref_emb, ref_labels)


class CrossBatchMemory(losses.CrossBatchMemory):
    """Wang et al. 2020 (Cross-batch memory for embedding learning), section 3: ``loss`` between the micro-batch
    and a queue of the last ``memory_size`` embeddings, over the pairs that labels allow or ``miner``
    finds among them.

    Unlike the library's, its state is whole (the queue's position is in it too, so that a resumed run
    goes on bit for bit), and in evaluation nothing is enqueued: it is then ``loss`` on the batch alone.
    Tuples of the batch are not used; the library takes the places of their positives and negatives in
    the batch for places in the queue, where other embeddings stand.
    """

    uses_tuples = False
    remembers = True

    def __init__(
        self,
        loss: nn.Module,
        embedding_size: int,
        memory_size: int = 1024,
        miner: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(loss, embedding_size, memory_size, miner, **kwargs)

    def forward(
        self, embeddings: Tensor, labels: Tensor, indices_tuple: Any = None, enqueue_mask: Tensor | None = None
    ) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N] against the queue; with ``enqueue_mask``, bool [N],
        that of the rows outside it, once those inside are enqueued.

        Raises:
            ValueError: for tuples with a mask, as in the library.
        """
        if indices_tuple is not None and enqueue_mask is not None:
            raise ValueError("indices_tuple and enqueue_mask are mutually exclusive")
        if self.training:
            return super().forward(embeddings, labels, enqueue_mask=enqueue_mask)
        if enqueue_mask is None:
            return self.loss(embeddings, labels, self.miner(embeddings, labels) if self.miner else None)
        batch = embeddings[~enqueue_mask], labels[~enqueue_mask]
        queue = embeddings[enqueue_mask], labels[enqueue_mask]
        found = self.miner(*batch, *queue) if self.miner else get_all_pairs_indices(batch[1], queue[1])
        return self.loss(*batch, found, *queue)

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.queue_idx, int(self.has_been_filled)])

    def set_extra_state(self, state: Tensor) -> None:
        self.queue_idx, self.has_been_filled = int(state[0]), bool(state[1])
