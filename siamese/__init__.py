"""Train embedding networks on labelled images, and study how they are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siamese.evaluation.names import Values

__version__ = "0.1.0"
__all__ = ["measure"]


def measure(embeddings: Any, labels: Any, *, queries: Any = None, gallery: Any = None) -> Values:
    """Measure ``embeddings``, array-like or a tensor [N, D], of classes ``labels`` [N], wherever they come from.

    The numbers are those that scripts/evaluate.py gives for other images than a run's own, with the default settings
    and seed 0, where the embeddings come in the same order and the labels sort as the classes there do.

    Args:
        labels: whole numbers or text; an image whose label is below 0, NaN or None has no class.
        queries, gallery: who looks for whom, as masks, bool [N], or as positions; None is all images.

    Returns:
        The measures by name, each a number or a :class:`siamese.evaluation.Undefined`, which has the reason.

    Raises:
        ConfigError: for shapes that do not fit, or embeddings that are NaN, infinite or zero.
    """
    from siamese.evaluator.bare import measure_embeddings  # which imports torch

    return measure_embeddings(embeddings, labels, queries, gallery)
