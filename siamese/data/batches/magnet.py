"""Batches of neighbouring clusters, for the magnet loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.balanced import one_group_a_class
from siamese.data.batches.groups import repeated
from siamese.data.batches.kind import Kind, Segment, Training
from siamese.data.draws import generator
from siamese.errors import ConfigError, RunError
from siamese.losses.magnet import Clusters, cluster


class Magnet(Kind):
    """``images_per_cluster`` images of each of ``data.batch_size / images_per_cluster`` clusters that lie near each
    other (Rippel et al. 2016), found by k-means in every class from the embeddings of the moment, ``refreshes`` times
    an epoch. A loss gets ``(clusters,)`` [N], for each image the number of its cluster in the batch."""

    form, item = "magnet", "cluster_groups"
    follows_network = True

    def __init__(self, clusters_per_class: int = 2, images_per_cluster: int = 8, refreshes: int = 2) -> None:
        self.clusters_per_class, self.segments = clusters_per_class, refreshes
        self.images = self.counted = images_per_cluster

    def check(self, counts: np.ndarray, names: Sequence[str], batch_items: int, asked: str) -> None:
        clusters = self.clusters_per_class
        if counts.min() < clusters:
            raise ConfigError(
                f"batches.clusters_per_class={clusters}: class {names[int(counts.argmin())]!r} has only {counts.min()} "
                "training images"
            )
        most = 1 + clusters * (len(names) - 1)
        if batch_items > most:
            raise ConfigError(
                f"{asked}: with batches.images_per_cluster={self.images} a micro-batch holds {batch_items} clusters; "
                f"expected at most {most}, one of a class and all {clusters} of each other"
            )

    def length(self, training: Training) -> int:
        return len(training.labels) // self.images

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        return cluster_groups(
            segment.embed(),
            training.labels,
            clusters_per_class=self.clusters_per_class,
            images_per_cluster=self.images,
            clusters_per_batch=segment.batch_items,
            batches=segment.batches,
            seed=training.seed,
            place=(epoch, segment.number),
        )

    def tuples(self, labels: Tensor) -> Tuples:
        roles, count = labels.shape
        return (torch.arange(count).repeat(roles),)

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        """Every class stands for a cluster."""
        return one_group_a_class(self, labels, seed, part)


def cluster_groups(
    embeddings: np.ndarray,
    labels: np.ndarray,
    *,
    clusters_per_class: int,
    images_per_cluster: int,
    clusters_per_batch: int,
    batches: int,
    seed: int,
    place: tuple[int, ...],
) -> np.ndarray:
    """The images of ``batches`` micro-batches, each of one cluster and of those it is most confused with.

    Rippel, Paluri, Dollár and Bourdev 2016 (Metric learning with adaptive density discrimination),
    section 3.2: k-means finds clusters in each class (:func:`siamese.losses.magnet.cluster`); each
    batch draws a seed cluster, the likelier the larger its loss, and takes the ``clusters_per_batch − 1``
    clusters of other classes whose means are nearest to it (impostors), and from each of them
    ``images_per_cluster`` images at random; no image twice before every image of the cluster came once.

    Args:
        embeddings: float [N, D], of the training images at this moment.
        labels: int64 [N].
        place: of the draws under ``seed``: the epoch, and which of its refreshes this is.

    Returns:
        int64 [batches · clusters_per_batch, images_per_cluster], positions in ``labels``; row
        ``b · clusters_per_batch`` is of the seed cluster of batch b, the rows after it are its
        impostors, nearest first. All rows of a batch are of different clusters.

    Raises:
        ValueError: for a class with fewer images than clusters.
        RunError: for fewer impostors than a batch takes.
    """
    random = generator(seed, "clusters", *place)
    found = cluster(embeddings, labels, clusters_per_class, random)
    members = [np.flatnonzero(found.of_image == c) for c in range(len(found.labels))]
    weights = found.losses + (not found.losses.any())  # without any loss, all alike
    seeds = random.choice(len(members), batches, p=weights / weights.sum())
    near = {c: impostors(found, c, clusters_per_batch - 1) for c in np.unique(seeds)}
    rows = [repeated(members[c], images_per_cluster, random) for first in seeds for c in (first, *near[first])]
    return np.stack(rows)


def impostors(found: Clusters, of: int, count: int) -> np.ndarray:
    """The ``count`` clusters of other classes whose means are nearest to that of cluster ``of``, nearest first.

    Raises:
        RunError: when there are fewer.
    """
    others = np.flatnonzero(found.labels != found.labels[of])
    if len(others) < count:
        raise RunError(
            f"batches=magnet: a micro-batch of {count + 1} clusters needs {count} of other classes than its first; "
            f"there are {len(others)} (embeddings that coincide, as when all collapse, are one cluster)"
        )
    distances = np.square(found.means[others] - found.means[of]).sum(1)
    return others[np.argsort(distances, kind="stable")[:count]]
