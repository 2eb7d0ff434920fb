"""Verification of pairs: is the Euclidean distance of two embeddings small exactly when they are of one class?"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc


def pair_verification(embeddings: Tensor, labels: Tensor, pairs: Tensor, distance: float) -> dict[str, float]:
    """Measure ``embeddings`` [N, D], as they are, with ``labels`` [N] on ``pairs`` [P, 2] of positions.

    Returns:
        pair_accuracy: the share of pairs that are nearer than ``distance`` (Euclidean) if and only if
            their labels are equal. pair_auc: the area under the ROC curve with the negated distance as
            the score (ties count one half).
    """
    first, second = embeddings.double()[pairs.t()]
    apart = torch.linalg.vector_norm(first - second, dim=1)
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    score = 1 / (1 + apart)  # in (0, 1], as torchmetrics takes it without squashing
    return {
        "pair_accuracy": ((apart < distance) == same).double().mean().item(),
        "pair_auc": binary_auroc(score, same.long(), thresholds=None).item(),
    }
