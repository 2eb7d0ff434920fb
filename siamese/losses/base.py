"""What a loss is here, and what it says of itself: the one contract that ours, the library's and anybody's own have.

A loss is an ``nn.Module`` called as ``loss(embeddings, labels, indices_tuple)``. Three attributes say what
cannot be found out by looking at it; one that is not there counts as :class:`Loss` has it. :func:`traits`
reads them, and nothing else asks a loss for them.
"""

from __future__ import annotations

from typing import NamedTuple

from pytorch_metric_learning import losses, reducers, regularizers
from torch import Tensor, nn

from siamese.errors import ConfigError


class Loss(nn.Module):
    """A loss of embeddings. Ours derive from it; a loss of your own may, or may have its attributes, or neither.

    Attributes:
        batch_dependent: whether the value of a batch may be other than the mean of the values of its equal
            parts, each with its own tuples: some term sees more than one tuple or one image, or the terms
            are not simply averaged. Accumulated gradients are then not those of one large batch.
        uses_tuples: whether the value is over the tuples that it is given, and over some that it forms from
            the labels where it is given None. One that does not works from embeddings and labels alone, so
            that rows can be added to its batch.
        remembers: whether the value depends on what the loss was called with before.
    """

    batch_dependent: bool = True
    uses_tuples: bool = True
    remembers: bool = False

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The scalar to minimise.

        Args:
            embeddings: float [N, D].
            labels: int64 [N].
            indices_tuple: positions in the batch, ``(a, p, n)`` of triplets, each [T]; ``(a1, p, a2, n)`` of
                pairs of one class and pairs of two; ``(clusters,)`` of magnet batches; None where the batch
                has no tuples.
        """
        raise NotImplementedError


class Traits(NamedTuple):
    """The attributes of :class:`Loss`, and what follows from them."""

    batch_dependent: bool = Loss.batch_dependent
    uses_tuples: bool = Loss.uses_tuples
    remembers: bool = Loss.remembers

    def depends(self, *, drawn: bool) -> bool:
        """Whether the value depends on which embeddings are seen at once, where tuples were ``drawn`` one by one or are
        those that the batch as a whole has: on these even a loss of single tuples depends."""
        return self.batch_dependent or (self.uses_tuples and not drawn)

    def takes_references(self, *, drawn: bool) -> bool:
        """Whether embeddings without a gradient can be added to its batch, and would change its gradient."""
        return self.depends(drawn=drawn) and not self.remembers and not (self.uses_tuples and drawn)


# Losses of the library that are a mean over images or over tuples, each term of which sees no other image, or no
# tuples but those of its anchor. Tuples only weigh the images of the former, and a batch weighs all of its own alike.
# The contrastive loss is not among them: it averages positive and negative pairs apart, and has more of one by chance.
_OVER_IMAGES = (
    losses.LargeMarginSoftmaxLoss,
    losses.NormalizedSoftmaxLoss,
    losses.ProxyNCALoss,
    losses.SoftTripleLoss,
)
_OVER_TUPLES = (
    losses.LiftedStructureLoss,
    losses.NTXentLoss,
    losses.TripletMarginLoss,
    losses.TupletMarginLoss,
)
_OF_ONE_EMBEDDING = (regularizers.LpRegularizer, regularizers.ZeroMeanRegularizer)


def traits(loss: nn.Module) -> Traits:
    """What ``loss`` says of itself; of a loss of pytorch-metric-learning that says nothing, what is known of it.

    Raises:
        ConfigError: for an attribute that is neither true nor false.
    """
    found = {}
    for name, known in _known(loss)._asdict().items():
        said = getattr(loss, name, known)
        if not isinstance(said, bool):
            raise ConfigError(f"{type(loss).__name__}.{name} is {said!r}; expected True or False")
        found[name] = said
    return Traits(**found)


def _known(loss: nn.Module) -> Traits:
    if isinstance(loss, losses.MultipleLosses):
        inner = [*map(traits, loss.losses.values() if loss.is_dict else loss.losses)]
        return Traits(*(any(said) for said in zip(*inner, strict=True)))
    if isinstance(loss, (*_OVER_IMAGES, *_OVER_TUPLES)):
        return Traits(not _averages(loss), uses_tuples=isinstance(loss, _OVER_TUPLES))
    return Traits(remembers=isinstance(loss, (losses.CrossBatchMemory, losses.DynamicSoftMarginLoss)))


def _averages(loss: losses.BaseMetricLossFunction) -> bool:
    """Whether every part of ``loss`` is a plain mean of terms of one embedding or one tuple."""
    several = isinstance(loss.reducer, reducers.MultipleReducers)  # one for each part
    parts = [*loss.reducer.reducers.values()] if several else [loss.reducer]
    regularizer = loss.embedding_regularizer
    if regularizer is not None:
        parts.append(regularizer.reducer)
    alone = regularizer is None or isinstance(regularizer, _OF_ONE_EMBEDDING)
    return alone and all(isinstance(p, reducers.MeanReducer) and not isinstance(p, reducers.SumReducer) for p in parts)
