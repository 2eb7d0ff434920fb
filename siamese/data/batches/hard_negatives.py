"""Batches of pairs of one class and of the images of other classes that are hardest to tell from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from siamese.data.batch import Tuples
from siamese.data.batches.balanced import one_group_a_class
from siamese.data.batches.kind import Kind, Segment, Training
from siamese.data.draws import generator
from siamese.data.tuples import classes_of
from siamese.errors import ConfigError, several
from siamese.losses.pairwise import blocks, squared_distances


class HardNegatives(Kind):
    """Random pairs of one class, each with the ``negatives`` images of other classes that are nearest to either of its
    images by the embeddings at the start of the epoch (Oh Song et al. 2016, section 4). A loss gets None, since the
    labels say it all: an image is a negative of every image of another class that is beside it.

    Every image is in one pair of an epoch, but for one of a class with an odd number of them.
    """

    form, item = "hard_negatives", "pairs_with_negatives"
    finds_tuples = True
    follows_network = True

    def __init__(self, negatives: int = 2) -> None:
        self.negatives = negatives
        self.images = self.counted = 2 + negatives

    def check(self, counts: np.ndarray, names: Sequence[str], batch_items: int, asked: str) -> None:
        needed = batch_items * self.images - 2
        others = counts.sum() - counts
        short = np.flatnonzero((others < needed) & (counts > 1))
        if len(short):
            classes = several(f"{names[c]!r} {others[c]}" for c in short.tolist())
            raise ConfigError(
                f"{asked}: with batches.negatives={self.negatives} the negatives of a pair are drawn from at least "
                f"{needed:,} training images of other classes; there are fewer beside {classes}"
            )

    def length(self, training: Training) -> int:
        return sum(len(members) // 2 for members in classes_of(training.labels))

    def items(self, training: Training, epoch: int, segment: Segment) -> np.ndarray:
        pairs = random_pairs(training.labels, generator(training.seed, "hard pairs", epoch))
        of_batches = pairs[: segment.batches * segment.batch_items].reshape(segment.batches, -1, 2)
        embeddings, labels = torch.from_numpy(segment.embed()), torch.from_numpy(training.labels)
        return np.concatenate([beside(batch, embeddings, labels, self.negatives) for batch in of_batches])

    def tuples(self, labels: Tensor) -> Tuples:
        return None

    def measured(self, labels: np.ndarray, triplets: np.ndarray, seed: int, part: str) -> list[tuple[Tensor, Tuples]]:
        """As many images of every class as an item has, so that a value does not depend on the network's own choice."""
        return one_group_a_class(self, labels, seed, part)


def random_pairs(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Pairs [P, 2] of positions in ``labels``, each of one class and no image in two, as many as there are."""
    shuffled = [random.permutation(members)[: len(members) // 2 * 2] for members in classes_of(labels)]
    return random.permutation(np.concatenate(shuffled).reshape(-1, 2))


def beside(pairs: np.ndarray, embeddings: Tensor, labels: Tensor, count: int) -> np.ndarray:
    """``pairs`` [P, 2] of a micro-batch with the hard negatives of each, int64 [P, 2 + count], nearest first.

    One pair after another takes the ``count`` images of other classes that are nearest to either of its images, of
    those that the micro-batch does not hold yet; so no image is in it twice.

    Args:
        pairs: positions in ``labels`` [n].
        embeddings: float [n, D].
        count: there are at least ``P · (2 + count) − 2`` images of other classes than that of each pair.
    """
    ends, wanted = torch.from_numpy(pairs), count * len(pairs)  # the pairs before may have taken all but the last
    near = []
    for rows in blocks(len(ends), len(labels)):
        first, second = ends[rows].unbind(1)
        away = squared_distances(embeddings[first], embeddings)
        away = torch.minimum(away, squared_distances(embeddings[second], embeddings))
        away[labels[first, None] == labels] = torch.inf
        away[:, ends.flatten()] = torch.inf
        near.append(away.topk(wanted, largest=False).indices)
    taken: set[int] = set()
    items = []
    for pair, candidates in zip(pairs.tolist(), torch.cat(near).tolist(), strict=True):
        negatives = [image for image in candidates if image not in taken][:count]
        taken.update(negatives)
        items.append(pair + negatives)
    return np.array(items)
