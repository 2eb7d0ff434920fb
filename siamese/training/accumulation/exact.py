"""Exact accumulation: the gradient of one batch of the whole window, in the memory of a micro-batch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from pytorch_lightning.overrides.distributed import prepare_for_backward
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from siamese.data import Batch
from siamese.errors import ConfigError
from siamese.training.learner import Learner
from siamese.training.random_state import random_state, restore_random_state
from siamese.training.window import LossInput, join, output

log = logging.getLogger(__name__)


class PendingBatch(NamedTuple):
    """A micro-batch that is to be embedded again, with the state of the random generators at its first time."""

    batch: Batch
    random: dict[str, Any]


class Exact:
    """Two passes over each window (Gao, Zhang, Han and Callan 2021, Scaling deep contrastive learning
    batch size under memory limited setup, section 3).

    Every micro-batch but the last is embedded without a graph. When the window is full, the loss of
    all its embeddings is computed once, and its gradient with respect to each of them. Then each
    micro-batch is embedded again, under the random state of its first time, and its part of that
    gradient pushed through.

    Lightning's automatic optimization stays in charge: each step returns a leaf that no parameter
    depends on, and the backward pass of the last one does the second passes (:class:`Replay`). It happens
    there because gradients of the step before are cleared between a training step and its backward pass,
    and because what arrives there is the scale that a GradScaler wants all gradients to have.
    """

    def __init__(self) -> None:
        self._pending: list[PendingBatch] = []
        self._embedded: list[Tensor] = []
        self._warned = False

    def step(self, learner: Learner, batch: Batch, batch_idx: int) -> dict[str, Any]:
        place = learner.place(batch_idx)
        if place.first:
            self._pending, self._embedded = [], []
            self._begin(learner)
        if not place.last:
            self._pending.append(PendingBatch(batch, random_state()))
            with torch.no_grad(), kept_buffers(learner.net):
                self._embedded.append(learner.embed(batch.images))
            return output(torch.zeros((), device=learner.device, requires_grad=True), {}, 0, 0, 0)
        z = learner.embed(batch.images)  # its graph is kept: one micro-batch less to embed again
        pending, self._pending = self._pending, []
        leaves, given = loss_input(learner, [*self._embedded, z], [*(p.batch.labels for p in pending), batch.labels])
        self._embedded = []
        loss, terms = learner.objective(*given)
        of_loss = [p for p in learner.objective.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [*leaves, *of_loss], materialize_grads=True)
        stand_in = loss.detach().requires_grad_()
        stand_in.register_hook(Replay(learner, z, pending, gradients, of_loss))
        rows = len(given.labels)
        measured = {name: term.detach() for name, term in {"loss": loss, **terms}.items()}
        # Lightning divides by the window.
        return output(stand_in * learner.window, measured, rows // learner.layout.images, rows, rows)

    def _begin(self, learner: Learner) -> None:
        module = learner.trainer.lightning_module
        if not module.automatic_optimization:
            raise ConfigError(
                f"accumulation.mode=exact: {type(module).__name__} uses manual optimization; expected automatic "
                "optimization, or accumulation=naive"
            )
        alone = learner.window * learner.ranks == 1
        if self._warned or alone or not any(isinstance(m, _BatchNorm) and m.training for m in learner.net.modules()):
            return
        self._warned = True
        log.warning(
            "accumulation=exact: the network has BatchNorm, whose statistics stay those of each micro-batch; the step "
            "is that of the window's whole loss, but not exactly that of one large batch"
        )

    def state_dict(self) -> dict[str, Any]:
        return {}  # checkpoints are written between windows

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class Replay:
    """The backward hook of a window's loss: pushes the cached ``gradients`` of the embeddings, and of the parameters
    ``of_loss`` after them, through the graphs of the window's micro-batches, one at a time.

    Under DDP the ranks' gradients are synchronised once, with the last of these.
    """

    def __init__(
        self,
        learner: Learner,
        last: Tensor,
        pending: list[PendingBatch],
        gradients: tuple[Tensor, ...],
        of_loss: list[nn.Parameter],
    ) -> None:
        self.learner, self.last, self.pending, self.of_loss = learner, last, pending, of_loss
        # DDP takes the mean over ranks.
        self.of_embeddings = [gradient * learner.ranks for gradient in gradients[: len(pending) + 1]]
        self.gradients_of_loss = list(gradients[len(pending) + 1 :])
        self.ddp = learner.trainer.strategy.model
        self._synchronise(False)

    def __call__(self, scale: Tensor) -> None:
        """Embed and push through, micro-batch by micro-batch; ``scale`` is a GradScaler's, and 1 without one."""
        after = random_state()
        passes: list[Tensor | PendingBatch] = [self.last, *self.pending]  # the graph that is there first, and freed
        gradients = [self.of_embeddings[-1], *self.of_embeddings[:-1]]
        for place, (one, gradient) in enumerate(zip(passes, gradients, strict=True)):
            embedded = [embed_again(self.learner, one) if isinstance(one, PendingBatch) else one]
            into = [gradient]
            if place == len(self.pending):
                embedded, into = [*embedded, *self.of_loss], [*into, *self.gradients_of_loss]
                self._synchronise(True, embedded)
            torch.autograd.backward(embedded, [g * scale for g in into])
        restore_random_state(after)

    def _synchronise(self, wanted: bool, embedded: list[Tensor] | None = None) -> None:
        if isinstance(self.ddp, DistributedDataParallel):
            self.ddp.require_backward_grad_sync = wanted
            if wanted:
                with torch.enable_grad():
                    prepare_for_backward(self.ddp, embedded)


def loss_input(learner: Learner, embeddings: list[Tensor], labels: list[Tensor]) -> tuple[list[Tensor], LossInput]:
    """Embeddings [n_i, D] of micro-batches with ``labels`` [n_i], cut off from their graphs, as leaves; and the one
    batch that they, and those of the other ranks, are together."""
    layout = learner.layout
    leaves = [z.detach().requires_grad_() for z in embeddings]
    mine = layout.join(leaves)
    ranks = learner.gather(mine.detach())
    ranks[learner.trainer.global_rank] = mine  # of the others' embeddings no gradient is wanted here
    return leaves, join(layout, list(zip(ranks, learner.gather(layout.join(labels)), strict=True)))


def embed_again(learner: Learner, pending: PendingBatch) -> Tensor:
    """The embeddings [n, D] of a micro-batch that has been embedded before, now with a graph."""
    restore_random_state(pending.random)
    with torch.enable_grad(), learner.forward_context():
        return learner.embed(pending.batch.images)


@contextlib.contextmanager
def kept_buffers(net: nn.Module) -> Iterator[None]:
    """Give the buffers of ``net`` (the running statistics of BatchNorm, say) their values back."""
    before = [(buffer, buffer.clone()) for buffer in net.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in before:
            buffer.copy_(value)
