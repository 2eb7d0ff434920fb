"""The gradient of a step in another way than the one that trains, to compare the two.

Nothing here disturbs training: accumulated gradients, random generators, buffers and the state of a
loss are afterwards what they were.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from siamese.training.accumulation.exact import PendingBatch, embed_again, kept_buffers, loss_input
from siamese.training.accumulation.memory import Memory, remember
from siamese.training.learner import Learner
from siamese.training.random_state import random_state, restore_random_state


class Gradients(NamedTuple):
    """By name of the loss or one of its terms: ``values``, each a scalar, and ``vectors``, the gradient with
    respect to every trained parameter of network and loss, end to end [P]."""

    values: dict[str, float]
    vectors: dict[str, Tensor]


def exact(learner: Learner, window: Sequence[PendingBatch], names: Sequence[str] = ("loss",)) -> Gradients:
    """Of the loss over the whole ``window`` as one batch."""
    with _undisturbed(learner):
        embeddings = [embed_again(learner, pending).detach() for pending in window]
        objective = copy.deepcopy(learner.objective)
        leaves, given = loss_input(learner, embeddings, [pending.batch.labels for pending in window])
        loss, terms = objective(*given)
        losses = {"loss": loss, **terms}
        of_loss, net = trained(objective), trained(learner.net)
        found = {
            name: torch.autograd.grad(losses[name], [*leaves, *of_loss], retain_graph=True, materialize_grads=True)
            for name in names
        }
        sums: dict[str, list[Tensor]] = {name: [torch.zeros_like(p) for p in net] for name in names}
        for i, pending in enumerate(window):
            z = embed_again(learner, pending)
            for name in names:
                gradient = found[name][i] * learner.ranks  # the mean over ranks is to come
                pushed = torch.autograd.grad(z, net, gradient, retain_graph=True, materialize_grads=True)
                sums[name] = [total + part for total, part in zip(sums[name], pushed, strict=True)]
        vectors = {name: _flat([*sums[name], *found[name][len(leaves) :]]) for name in names}
        return _result(learner, {name: losses[name].item() for name in names}, vectors)


def accumulated(
    learner: Learner,
    window: Sequence[PendingBatch],
    names: Sequence[str] = ("loss",),
    memory: Memory | None = None,
) -> Gradients:
    """Of the mean over ``window`` of the micro-batches' own losses, with the references that ``memory``
    would give them, if one is given."""
    with _undisturbed(learner):
        objective = copy.deepcopy(learner.objective)
        parameters = [*trained(learner.net), *trained(objective)]
        bank = memory.bank if memory is not None and memory.scope == "persistent" else None
        values = dict.fromkeys(names, 0.0)
        vectors: dict[str, Tensor] = {}
        for pending in window:
            given = learner.union(embed_again(learner, pending), pending.batch)
            loss, terms = objective(*given, references=bank)
            losses = {"loss": loss, **terms}
            for name in names:
                found = torch.autograd.grad(losses[name], parameters, retain_graph=True, materialize_grads=True)
                vectors[name] = vectors.get(name, 0) + _flat(found) / len(window)
                values[name] += losses[name].item() / len(window)
            if memory is not None:
                bank = remember(bank, given, memory.size)
        return _result(learner, values, vectors)


class Comparison(NamedTuple):
    """Of a gradient with the exact one: the cosine between the two, and the ratio of their norms."""

    cosine: float
    norm_ratio: float


def compare(gradient: Tensor, exact: Tensor) -> Comparison | None:
    """How ``gradient`` [P] compares with ``exact`` [P]; None where one is zero and has no direction."""
    a, b = gradient.double(), exact.double()
    norms = a.norm() * b.norm()
    if not norms:
        return None
    return Comparison(float(a @ b / norms), float(a.norm() / b.norm()))


def trained(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of ``network`` that an optimizer changes."""
    return [p for p in network.parameters() if p.requires_grad]


@contextlib.contextmanager
def _undisturbed(learner: Learner) -> Iterator[None]:
    state = random_state()
    with torch.enable_grad(), kept_buffers(learner.net):
        yield
    restore_random_state(state)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """``tensors`` end to end."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _result(learner: Learner, values: dict[str, float], vectors: dict[str, Tensor]) -> Gradients:
    """``vectors`` as DDP would have them: their mean over ranks."""
    return Gradients(values, {k: learner.trainer.strategy.reduce(v, reduce_op="mean") for k, v in vectors.items()})
