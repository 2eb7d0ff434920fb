"""Every loss of ours beside its formula, written as loops over float64 numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, permutations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from siamese.losses import (
    BatchAllTripletLoss,
    ConstellationLoss,
    ContrastiveLoss,
    InstanceLoss,
    LabelAwareRankedLoss,
    LiftedLoss,
    MagnetLoss,
    NPairLoss,
    TripletCentroidLoss,
    TripletHardLoss,
    TripletLoss,
    TripletSoftLoss,
)

Tuples = tuple[Tensor, ...] | None
Rows = list[list[int]]


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def average(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def squared(x: Tensor, y: Tensor) -> float:
    return sum((a - b) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True))


def dot(x: Tensor, y: Tensor) -> float:
    return sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True))


def cosine(x: Tensor, y: Tensor) -> float:
    return dot(x, y) / math.sqrt(dot(x, x) * dot(y, y))


def lists(tuples: Tuples) -> Rows:
    return [index.tolist() for index in tuples or ()]


def positives(y: list[int]) -> list[tuple[int, int]]:
    return [(i, j) for i, j in permutations(range(len(y)), 2) if y[i] == y[j]]


def others(y: list[int], i: int) -> list[int]:
    return [k for k in range(len(y)) if y[k] != y[i]]


def all_triplets(y: list[int]) -> list[tuple[int, ...]]:
    return [(a, p, n) for a, p, n in permutations(range(len(y)), 3) if y[a] == y[p] != y[n]]


def contrastive(z: Tensor, y: list[int], tuples: Tuples) -> float:
    near = [(i, j) for i, j in combinations(range(len(y)), 2) if y[i] == y[j]]
    apart = [(i, j) for i, j in combinations(range(len(y)), 2) if y[i] != y[j]]
    if tuples is not None:
        t = lists(tuples)
        near = list(zip(t[0], t[1], strict=True))
        apart = list(zip(t[0] if len(t) == 3 else t[2], t[-1], strict=True))
    pull = [squared(z[i], z[j]) for i, j in near]
    push = [max(0.0, 1.5 - math.sqrt(squared(z[i], z[j]))) ** 2 for i, j in apart]
    return average(pull + push)


def triplet(z: Tensor, y: list[int], tuples: Tuples) -> float:
    chosen = all_triplets(y) if tuples is None else list(zip(*lists(tuples), strict=True))
    return average([max(0.0, cosine(z[a], z[n]) - cosine(z[a], z[p]) + 0.4) for a, p, n in chosen])


def batch_all(z: Tensor, y: list[int], tuples: Tuples) -> float:
    return triplet(z, y, None)


def differences(z: Tensor, y: list[int], tuples: Tuples) -> list[float]:
    if tuples is not None:
        return [squared(z[a], z[p]) - squared(z[a], z[n]) for a, p, n in zip(*lists(tuples), strict=True)]
    found = []
    for a in range(len(y)):
        same = [squared(z[a], z[p]) for p in range(len(y)) if p != a and y[p] == y[a]]
        other = [squared(z[a], z[n]) for n in others(y, a)]
        if same and other:
            found.append(max(same) - min(other))
    return found


def hard(z: Tensor, y: list[int], tuples: Tuples) -> float:
    return average([max(0.0, d + 1.0) for d in differences(z, y, tuples)])


def soft(z: Tensor, y: list[int], tuples: Tuples) -> float:
    return average([math.log(1 + math.exp(d + 0.5)) for d in differences(z, y, tuples)])


def centroid_of(z: Tensor, members: list[int]) -> Tensor:
    return torch.stack([z[i] for i in members]).mean(0)


def centroid(z: Tensor, y: list[int], tuples: Tuples) -> float:
    hinges = []
    for a in range(len(y)):
        own = [i for i in range(len(y)) if y[i] == y[a] and i != a]
        for label in set(y) - {y[a]} if own else ():
            other = centroid_of(z, [i for i in range(len(y)) if y[i] == label])
            hinges.append(max(0.0, squared(z[a], centroid_of(z, own)) - squared(z[a], other) + 1.0))
    return average(hinges)


def lifted(smooth: bool) -> Callable[[Tensor, list[int], Tuples], float]:
    def value(z: Tensor, y: list[int], tuples: Tuples) -> float:
        terms = []
        for i, j in combinations(range(len(y)), 2):
            if y[i] != y[j] or not others(y, i):
                continue
            push = [1.0 - math.sqrt(squared(z[e], z[k])) for e in (i, j) for k in others(y, e)]
            joined = math.log(sum(map(math.exp, push))) if smooth else max(push)
            terms.append(max(0.0, math.sqrt(squared(z[i], z[j])) + joined) ** 2)
        return sum(terms) / (2 * max(len(terms), 1))

    return value


def against(positive: float, negatives: list[float]) -> float:
    return math.log(1 + sum(math.exp(s - positive) for s in negatives))


def n_pair(z: Tensor, y: list[int], tuples: Tuples) -> float:
    pairs, used = positives(y), list(range(len(y)))
    terms = [against(dot(z[i], z[j]), [dot(z[i], z[k]) for k in others(y, i)]) for i, j in pairs]
    if tuples is not None:
        a, p, *_ = lists(tuples)
        used = a + p
        terms = [
            against(dot(z[i], z[j]), [dot(z[i], z[k]) for k in p if y[k] != y[i]]) for i, j in zip(a, p, strict=True)
        ]
    return average(terms) + 0.1 / 2 * average([dot(z[i], z[i]) for i in used])


def constellation(z: Tensor, y: list[int], tuples: Tuples) -> float:
    pairs = positives(y) if tuples is None else list(zip(*lists(tuples)[:2], strict=True))
    return average(
        [against(dot(z[i], z[j]), sorted(dot(z[i], z[k]) for k in others(y, i))[-2:]) for i, j in pairs],
    )


def instance(z: Tensor, y: list[int], tuples: Tuples) -> float:
    ids = y
    if tuples is not None:
        ids = list(range(len(y)))
        for a, p in zip(*lists(tuples)[:2], strict=True):
            ids = [ids[a] if i == ids[p] else i for i in ids]
    return average(
        [against(4 * cosine(z[i], z[j]), [4 * cosine(z[i], z[k]) for k in others(ids, i)]) for i, j in positives(ids)]
    )


def larl(z: Tensor, y: list[int], tuples: Tuples) -> float:
    terms = []
    for i in range(len(y)):
        scores = {c: average([cosine(z[i], z[k]) for k in range(len(y)) if y[k] == c and k != i]) for c in set(y)}
        if y.count(y[i]) > 1 and len(scores) > 1:
            best = max(s for c, s in scores.items() if c != y[i])
            terms.append(max(0.0, 0.4 - scores[y[i]] + best) / (1 + math.log(1 + 0.5 * y.count(y[i]))))
    return average(terms)


def magnet(z: Tensor, y: list[int], tuples: Tuples) -> float:
    given = lists(tuples)[0] if tuples is not None and len(tuples) == 1 else y
    clusters = list(zip(y, given, strict=True))
    means = {c: centroid_of(z, [i for i in range(len(y)) if clusters[i] == c]) for c in set(clusters)}
    variance = sum(squared(z[i], means[c]) for i, c in enumerate(clusters)) / max(len(y) - 1, 1)
    twice = 2 * max(variance, torch.finfo(torch.float64).eps)
    terms = []
    for i, c in enumerate(clusters):
        away = [squared(z[i], means[k]) / twice for k in means if k[0] != y[i]]
        nearest = min(away, default=0.0)
        total = sum(math.exp(nearest - x) for x in away)
        terms.append(max(0.0, squared(z[i], means[c]) / twice + 1.0 - nearest + math.log(total)) if away else 0.0)
    return average(terms)


class Case(NamedTuple):
    """A loss, its formula, and the tuples other than None that it takes: triplets, pairs, clusters."""

    loss: nn.Module
    formula: Callable[[Tensor, list[int], Tuples], float]
    tuples: tuple[str, ...] = ("triplets",)


CASES = {
    "contrastive": Case(ContrastiveLoss(margin=1.5), contrastive, ("triplets", "pairs")),
    "triplet": Case(TripletLoss(), triplet),
    "triplet_batch_all": Case(BatchAllTripletLoss(), batch_all),
    "triplet_hard": Case(TripletHardLoss(), hard),
    "triplet_soft": Case(TripletSoftLoss(margin=0.5), soft),
    "triplet_centroid": Case(TripletCentroidLoss(), centroid),
    "lifted": Case(LiftedLoss(), lifted(smooth=True)),
    "lifted_hard": Case(LiftedLoss(smooth=False), lifted(smooth=False)),
    "n_pair": Case(NPairLoss(l2_weight=0.1), n_pair, ("triplets", "pairs")),
    "constellation": Case(ConstellationLoss(negatives=2), constellation, ("triplets", "pairs")),
    "instance": Case(InstanceLoss(gamma=4.0), instance, ("triplets", "pairs")),
    "larl": Case(LabelAwareRankedLoss(class_weighting=0.5), larl),
    "magnet": Case(MagnetLoss(), magnet, ("triplets", "clusters")),
}
EACH = [(name, kind) for name, case in CASES.items() for kind in ("none", *case.tuples)]


def tuples_of(kind: str, labels: list[int], seed: int = 0, count: int = 7) -> Tuples:
    """Some ``kind`` of tuples that the labels allow, drawn from ``seed``; there may be none of them."""
    random = torch.Generator().manual_seed(seed)

    def some(choices: list[tuple[int, ...]], width: int) -> Tensor:
        picked = torch.randint(len(choices), (count * bool(choices),), generator=random) if choices else []
        return torch.tensor([choices[i] for i in picked], dtype=torch.long).view(-1, width).t()

    if kind == "triplets":
        return tuple(some(all_triplets(labels), 3))
    if kind == "pairs":
        different = [(i, j) for i in range(len(labels)) for j in others(labels, i)]
        return (*some(positives(labels), 2), *some(different, 2))  # type: ignore[list-item]
    if kind == "clusters":
        return (torch.randint(3, (len(labels),), generator=random),)
    return None
