"""Verification: are two images of the same class? Measured on fixed triplets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_roc

# Names of what :func:`verification` measures, each with whether more or less is better.
METRICS = {
    "auc": "max",
    "good_triplets": "max",
    "cos_positive": "max",
    "cos_negative": "min",
    "euclid_positive": "min",
    "euclid_negative": "max",
}


def verification(embeddings: Tensor, triplets: Tensor) -> dict[str, float]:
    """Measure ``embeddings`` [N, D] on ``triplets`` [T, 3] (positions of anchor, positive, negative).

    Anchor and positive are a pair of the same class, anchor and negative one of different classes;
    the cosine is the score.

    Returns:
        auc: the area under the ROC curve, the probability that a same-class pair scores higher
            (ties count one half). good_triplets: the share whose anchor is strictly nearer to its
            positive. cos_* and euclid_*: mean cosine and mean Euclidean distance of the unit vectors.
    """
    positive, negative = _cosines(embeddings, triplets)
    scores, same = _scores(positive, negative)
    return {
        "auc": binary_auroc(scores, same, thresholds=None).item(),
        "good_triplets": (scores[same == 1] > scores[same == 0]).double().mean().item(),
        "cos_positive": positive.mean().item(),
        "cos_negative": negative.mean().item(),
        "euclid_positive": _euclid(positive).mean().item(),
        "euclid_negative": _euclid(negative).mean().item(),
    }


def roc(embeddings: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor]:
    """False and true positive rates, each [K], of the pairs of ``triplets`` by falling cosine."""
    fpr, tpr, _ = binary_roc(*_scores(*_cosines(embeddings, triplets)), thresholds=None)
    return fpr, tpr


def mean_cosine(embeddings: Tensor) -> float:
    """The mean cosine over all pairs of different rows of [N, D], in O(N·D)."""
    z = nn.functional.normalize(embeddings.double(), dim=1)
    count = len(z)
    return float((z.sum(0).square().sum() - count) / (count * (count - 1)))


def _cosines(embeddings: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor]:
    z = nn.functional.normalize(embeddings.double(), dim=1)
    a, p, n = z[triplets[:, 0]], z[triplets[:, 1]], z[triplets[:, 2]]
    return (a * p).sum(1).clamp(-1, 1), (a * n).sum(1).clamp(-1, 1)


def _scores(positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in [0, 1], as torchmetrics takes them without squashing, and what they should be. In
    float32, so that equal cosines are ties whatever their last bits."""
    scores = (1 + torch.cat([positive, negative]).float()) / 2
    return scores, torch.cat([torch.ones_like(positive), torch.zeros_like(negative)]).long()


def _euclid(cosine: Tensor) -> Tensor:
    return (2 - 2 * cosine).clamp(min=0).sqrt()
