"""What a loss that has weights for each class takes an embedding for."""

from __future__ import annotations

from pytorch_metric_learning import losses
from torch import Tensor, nn


def class_loss(loss: nn.Module) -> nn.Module | None:
    """``loss``, or the first loss inside it, that has a method ``get_logits``, as those of the library with weights for
    each class have; None where there is none."""
    return next((part for part in loss.modules() if callable(getattr(part, "get_logits", None))), None)


def class_logits(loss: nn.Module, embeddings: Tensor) -> Tensor:
    """The logits [N, C] of ``embeddings`` [N, D] by a :func:`class_loss`: those whose softmax it trains, without its
    margin. Of proxy anchor, which has no softmax, the similarities in its own scale."""
    weights = next(loss.parameters(), embeddings)
    found: Tensor = loss.get_logits(embeddings.to(weights))  # type: ignore[operator]
    if isinstance(loss, (losses.ProxyNCALoss, losses.ProxyAnchorLoss)) and not loss.distance.is_inverted:
        found = -found  # of these two the library has distances
    scale = next((getattr(loss, name) for kind, name in SCALES.items() if isinstance(loss, kind)), 1.0)
    return found * scale


# What the library multiplies by only where it computes the loss.
SCALES = {losses.SoftTripleLoss: "la", losses.ProxyNCALoss: "softmax_scale", losses.ProxyAnchorLoss: "alpha"}
