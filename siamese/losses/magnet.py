"""The magnet loss over clusters of each class, and the clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from siamese.losses.base import Loss
from siamese.losses.centroid import class_sums
from siamese.losses.pairwise import masked_logsumexp, mean, squared_distances


class MagnetLoss(Loss):
    """Mean of ``max(0, −log(exp(−‖r − μ(r)‖² / 2σ² − α) / Σ_μ exp(−‖r − μ‖² / 2σ²)))`` over embeddings r.

    Rippel, Paluri, Dollár and Bourdev 2016 (Metric learning with adaptive density discrimination),
    section 3.2, the objective of a neighbourhood of clusters. μ(r) is the mean of r's cluster and the
    sum is over the clusters of other classes, both in the batch; ``σ² = Σ ‖r − μ(r)‖² / (N − 1)`` is a
    variance already and is not squared again. With ``alpha``, the squared distance to an impostor has
    to exceed that to the own cluster by 2·alpha·σ².
    """

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N]. A tuple of one is ``(clusters,)``, the cluster
        [N] of each embedding (one number in two classes is two clusters); with any other tuple, and with
        None, every class is one cluster. Zero where there is one class."""
        clusters = labels if indices_tuple is None or len(indices_tuple) != 1 else indices_tuple[0]
        return mean(magnet(embeddings, labels, clusters, self.alpha))


def magnet(z: Tensor, labels: Tensor, clusters: Tensor, alpha: float) -> Tensor:
    """The terms [N] of which :class:`MagnetLoss` is the mean."""
    found, of_cluster = torch.stack([labels, clusters], 1).unique(dim=0, return_inverse=True)
    _, sums, counts = class_sums(z, of_cluster)
    means = sums / counts[:, None]
    own = (z - means[of_cluster]).square().sum(1)
    # Not below the resolution of the type: clusters of duplicates have no variance to divide by.
    twice_variance = 2 * (own.sum() / max(len(z) - 1, 1)).clamp(min=torch.finfo(z.dtype).eps)
    impostors = found[:, 0] != labels[:, None]
    against = masked_logsumexp(-squared_distances(z, means) / twice_variance, impostors)
    return nn.functional.relu(own / twice_variance + alpha + against)


class Clusters(NamedTuple):
    """The clusters of every class, numbered through, class after class.

    Attributes:
        of_image: int64 [N], the cluster of each embedding.
        labels: int64 [C], the class of each cluster.
        means: float [C, D].
        losses: float [C], the mean over the embeddings of each cluster of their magnet loss with a gap
            of 1, against all clusters of other classes.
    """

    of_image: np.ndarray
    labels: np.ndarray
    means: np.ndarray
    losses: np.ndarray


def cluster(embeddings: np.ndarray, labels: np.ndarray, per_class: int, random: np.random.Generator) -> Clusters:
    """k-means++ and Lloyd's iterations over the ``embeddings`` [N, D] of each class, as in section 3.2 of
    Rippel et al. 2016; a class ends with fewer than ``per_class`` clusters where its embeddings coincide.

    Raises:
        ValueError: for a class with fewer images than ``per_class``.
    """
    of_image = np.zeros(len(labels), np.int64)
    classes: list[int] = []
    means: list[np.ndarray] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise ValueError(
                f"{per_class} clusters of each class need as many images; class {label} has {len(members)}"
            )
        distinct = min(per_class, len(np.unique(embeddings[members], axis=0)))
        state = int(random.integers(2**31))
        with threadpool_limits(1):  # several threads add up in any order
            found = KMeans(distinct, n_init=1, random_state=state).fit(embeddings[members])
        used, assigned = np.unique(found.labels_, return_inverse=True)
        of_image[members] = len(classes) + assigned
        classes.extend([label] * len(used))
        means.append(found.cluster_centers_[used])
    z, of_class, of_cluster = (torch.from_numpy(x) for x in (embeddings, labels, of_image))
    terms = magnet(z, of_class, of_cluster, alpha=1.0).numpy()
    losses = np.bincount(of_image, terms) / np.bincount(of_image)
    return Clusters(of_image, np.array(classes), np.concatenate(means), losses)
