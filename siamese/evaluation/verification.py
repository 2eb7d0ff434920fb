"""Verification on fixed triplets: are two images of the same class?

Anchor and positive are a pair of the same class, anchor and negative one of different classes; the nearer a pair, the
more it is taken for one of the same class. Distances are those of the unit vectors, from differences in float64; what a
tie is says :func:`siamese.evaluation.blocks.tie_key`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siamese.evaluation.blocks import directions, squared_distances
from siamese.evaluation.curve import Curve
from siamese.evaluation.names import THRESHOLD_METRICS, THRESHOLDS, Undefined, Values

FOLDS = 10


@dataclass(frozen=True)
class Triplets:
    """The pairs of T triplets.

    Attributes:
        positive, negative: squared distances float32 [T] of anchors to positives and to negatives.
        cosines: float64 [T, 2], of the same.
    """

    positive: np.ndarray
    negative: np.ndarray
    cosines: np.ndarray

    @classmethod
    def of(cls, embeddings: np.ndarray, triplets: np.ndarray) -> Triplets:
        """Those at ``triplets`` [T, 3], positions of anchor, positive and negative in ``embeddings`` [N, D]."""
        used, places = np.unique(triplets, return_inverse=True)
        unit = torch.from_numpy(directions(embeddings[used]))
        a, p, n = torch.from_numpy(places.reshape(triplets.shape)).unbind(1)
        cosines = torch.stack([torch.linalg.vecdot(unit[a], unit[other]) for other in (p, n)], dim=1)
        positive, negative = (squared_distances(unit, unit, a, other).numpy() for other in (p, n))
        return cls(positive, negative, cosines.clamp(-1, 1).numpy())

    @property
    def curve(self) -> Curve:
        """The ROC curve of all their pairs."""
        return Curve.of(self.positive, self.negative)

    def values(self) -> dict[str, float]:
        """What holds without a threshold.

        auc: the area under the ROC curve, the probability that a same-class pair is nearer (ties count one half).
        good_triplets: the share whose anchor is strictly nearer to its positive. cos_* and euclid_*: mean cosine and
        mean Euclidean distance.
        """
        found = {"auc": self.curve.area, "good_triplets": float((self.positive < self.negative).mean())}
        for i, (name, squared) in enumerate((("positive", self.positive), ("negative", self.negative))):
            found[f"cos_{name}"] = float(self.cosines[:, i].mean())
            found[f"euclid_{name}"] = float(np.sqrt(squared.astype(np.float64)).mean())
        return found

    def in_folds(self) -> Values:
        """folds_accuracy and folds_accuracy_error: accuracy as Labeled Faces in the Wild has it (Huang et al. 2007,
        section 5): ten folds of pairs, each at the distance that is best for the nine others; the mean, and its
        standard error (the standard deviation of the ten over √10). Here every tenth triplet is of one fold."""
        names = ("folds_accuracy", "folds_accuracy_error")
        if len(self.positive) < FOLDS:
            return dict.fromkeys(names, Undefined(f"it needs {FOLDS} triplets, found {len(self.positive)}"))
        fold, found = np.arange(len(self.positive)) % FOLDS, []
        near, far = (np.sqrt(squared.astype(np.float64)) for squared in (self.positive, self.negative))
        for one in range(FOLDS):
            threshold = best_threshold(near[fold != one], far[fold != one])
            found.append(accuracy(near[fold == one], far[fold == one], threshold))
        return dict(zip(names, (float(np.mean(found)), float(np.std(found, ddof=1) / FOLDS**0.5)), strict=True))

    def at_thresholds(self, chosen: Mapping[str, float | Undefined]) -> Values:
        """far_at_threshold_* and tar_at_threshold_*: the shares of the pairs of different classes and of the same that
        are accepted at the thresholds ``chosen`` on other images, ``threshold_at_*``."""
        found: Values = dict.fromkeys(THRESHOLD_METRICS, Undefined("no such threshold was found on validation images"))
        for name in THRESHOLDS:
            threshold = chosen.get(f"threshold_at_{name}")
            if threshold is None or isinstance(threshold, Undefined):
                continue
            for rate, squared in (("far", self.negative), ("tar", self.positive)):
                accepted = np.sqrt(squared.astype(np.float64)) <= threshold
                found[f"{rate}_at_threshold_{name}"] = float(accepted.mean())
        return found


def verification(embeddings: Tensor, triplets: Tensor) -> dict[str, float]:
    """:meth:`Triplets.values` of ``embeddings`` [N, D] on ``triplets`` [T, 3]."""
    return Triplets.of(embeddings.numpy(), triplets.numpy()).values()


def mean_cosine(embeddings: Tensor) -> float:
    """The mean cosine over all pairs of different rows of [N, D], in O(N·D)."""
    z = torch.from_numpy(directions(embeddings.numpy()))
    count = len(z)
    return float((z.sum(0).square().sum() - count) / (count * (count - 1)))


def pair_distances(embeddings: np.ndarray, triplets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances [T] of anchors to positives and [T] to negatives, of ``embeddings`` [N, D] as
    they are: of unit length where the model makes them so."""
    anchor, positive, negative = (embeddings[triplets[:, i]].astype(np.float64) for i in range(3))
    return np.linalg.norm(anchor - positive, axis=1), np.linalg.norm(anchor - negative, axis=1)


def accuracy(positive: np.ndarray, negative: np.ndarray, threshold: float) -> float:
    """The share of pairs told right by calling those at a distance below ``threshold`` the same class,
    of distances ``positive`` [P] of pairs that are, and ``negative`` [Q] of pairs that are not."""
    right = (positive < threshold).sum() + (negative >= threshold).sum()
    return float(right / (len(positive) + len(negative)))


def best_threshold(positive: np.ndarray, negative: np.ndarray) -> float:
    """The distance with the greatest :func:`accuracy`, half way between two distances that are found;
    the least such.

    Raises:
        ValueError: without any pair.
    """
    if not len(positive) + len(negative):
        raise ValueError("a threshold needs pairs, found none")
    distances, place = np.unique(np.concatenate([positive, negative]), return_inverse=True)
    gain = np.bincount(place, np.repeat([1.0, -1.0], [len(positive), len(negative)]), len(distances))
    best = int(np.concatenate([[0], gain.cumsum()]).argmax())  # so many of the distances are below it
    if best == 0:
        return float(distances[0])
    if best == len(distances):
        return float(np.nextafter(distances[-1], np.inf))
    middle = (distances[best - 1] + distances[best]) / 2
    return float(middle if middle > distances[best - 1] else distances[best])
