"""Images held out of a pool, each class in the same proportion, and whole groups at a time where there are some.

Every function returns the images that are held out, sorted, and the classes that are too small: of which not two
images could be held out and two left. None of a small class is held out, except with a group of others.
"""

from __future__ import annotations

import numpy as np

from siamese.data.tuples import classes_of

Held = tuple[np.ndarray, np.ndarray]


def hold_out(pool: np.ndarray, labels: np.ndarray, fraction: float, random: np.random.Generator) -> Held:
    """``fraction`` of the images ``pool`` of each class, at least two."""
    held, small = [pool[:0]], []
    for members in _members(pool, labels):
        count = max(2, round(len(members) * fraction))
        if len(members) - count < 2:
            small.append(labels[members[0]])
        else:
            held.append(random.choice(members, count, replace=False))
    return np.sort(np.concatenate(held)), np.array(small, dtype=np.int64)


def fold(pool: np.ndarray, labels: np.ndarray, folds: int, number: int, random: np.random.Generator) -> Held:
    """Fold ``number`` of ``folds``. Each class is in all of them in nearly equal parts; which folds have one more is
    gone on with from class to class, so that the folds differ by one image at most."""
    held, small, first = [pool[:0]], [], 0
    for members in _members(pool, labels):
        if len(members) < 2 * folds:
            small.append(labels[members[0]])
            continue
        larger = len(members) % folds
        sizes = len(members) // folds + ((np.arange(folds) - first) % folds < larger)
        end = sizes[: number + 1].sum()
        held.append(random.permutation(members)[end - sizes[number] : end])
        first = (first + larger) % folds
    return np.sort(np.concatenate(held)), np.array(small, dtype=np.int64)


class Groups:
    """The groups among the images ``pool``.

    Attributes:
        members: int64 [n_g] of each, its images.
        classes: of each, the places of its classes in ``labels``, and how many images it has of each of them.
        labels: int64 [C], the classes, and ``counts`` [C], their images.
    """

    def __init__(self, pool: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> None:
        self.members = [pool[places] for places in classes_of(groups[pool])]
        self.labels, self.counts = np.unique(labels[pool], return_counts=True)
        found = (np.unique(labels[images], return_counts=True) for images in self.members)
        self.classes = [(np.searchsorted(self.labels, of), counts) for of, counts in found]

    def images(self, chosen: list[int]) -> np.ndarray:
        """The images of the groups ``chosen``, sorted."""
        return np.sort(np.concatenate([np.empty(0, np.int64), *(self.members[g] for g in chosen)]))


def hold_out_groups(groups: Groups, fraction: float, random: np.random.Generator) -> Held:
    """Groups that hold about ``fraction`` of the images of each class, at least two.

    One group after another, in an order that is drawn, is held out where that brings the numbers of its classes nearer
    to what is wanted, all in all, and leaves two images of each; then any group of a class that still lacks images.
    """
    wanted = np.maximum(2, np.round(groups.counts * fraction))
    have, order = np.zeros(len(groups.labels)), random.permutation(len(groups.members)).tolist()
    held: list[int] = []
    for lacking in (False, True):
        taken = set(held)
        for g in [g for g in order if g not in taken]:
            classes, counts = groups.classes[g]
            after = have[classes] + counts
            if lacking:
                takes = (have[classes] < 2).any()
            else:
                takes = np.abs(wanted[classes] - after).sum() < np.abs(wanted[classes] - have[classes]).sum()
            if takes and (groups.counts[classes] - after >= 2).all():
                have[classes] = after
                held.append(g)
    return groups.images(held), groups.labels[have < 2]


def fold_groups(groups: Groups, folds: int, number: int, random: np.random.Generator) -> Held:
    """Fold ``number`` of ``folds``, of whole groups.

    The larger groups first, in an order that is drawn among those of one size, each goes to the fold that has the least
    share of its classes, and among those to the one with fewest images.
    """
    order = random.permutation(len(groups.members))
    order = order[np.argsort([-len(groups.members[g]) for g in order], kind="stable")]
    have, sizes, held = np.zeros((folds, len(groups.labels))), np.zeros(folds), []
    for g in order.tolist():
        classes, counts = groups.classes[g]
        shares = (have[:, classes] * counts / groups.counts[classes]).sum(1).round(9)
        chosen = int(np.lexsort((sizes, shares))[0])
        have[chosen, classes] += counts
        sizes[chosen] += len(groups.members[g])
        if chosen == number:
            held.append(g)
    return groups.images(held), groups.labels[have.min(0) < 2]


def _members(pool: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    return [pool[places] for places in classes_of(labels[pool])]
