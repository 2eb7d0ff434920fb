"""Exact accumulation: the gradient of one batch of the whole window, in the memory of a micro-batch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from pytorch_lightning.overrides.distributed import prepare_for_backward
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from siamese.accumulation.distributed import embed, gather
from siamese.accumulation.window import Seen, join, output, place_in
from siamese.data import Batch
from siamese.errors import ConfigError
from siamese.randomness import random_state, restore_random_state

if TYPE_CHECKING:
    from siamese.module import SiameseModule

log = logging.getLogger(__name__)


class Held(NamedTuple):
    """A micro-batch to embed again, with the state of the random generators when it was embedded first."""

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
    depends on, and the backward pass of the last one does the second passes. It happens there
    because gradients of the step before are cleared between a training step and its backward pass,
    and because what arrives there is the scale that a GradScaler wants all gradients to have.
    """

    def __init__(self) -> None:
        self._held: list[Held] = []
        self._embedded: list[Tensor] = []
        self._warned = False

    def step(self, module: SiameseModule, batch: Batch, batch_idx: int) -> dict[str, Any]:
        place = place_in(module.trainer, batch_idx)
        if place.first:
            self._held, self._embedded = [], []
            self._begin(module)
        if not place.last:
            self._held.append(Held(batch, random_state()))
            with torch.no_grad(), kept_buffers(module.net):
                self._embedded.append(embed(module, batch.images))
            return output(torch.zeros((), device=module.device, requires_grad=True), {}, 0, 0, 0)
        z = embed(module, batch.images)  # its graph is kept: one micro-batch less to embed again
        held, self._held = self._held, []
        own, seen = show(module, [*self._embedded, z], [*(h.batch.labels for h in held), batch.labels])
        self._embedded = []
        loss, terms = module.objective(*seen)
        of_loss = [p for p in module.objective.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, [*own, *of_loss], materialize_grads=True)
        leaf = loss.detach().requires_grad_()
        leaf.register_hook(SecondPasses(module, z, held, gradients, of_loss))
        rows, window = len(seen.labels), module.trainer.accumulate_grad_batches  # Lightning divides by the window
        measured = {name: term.detach() for name, term in {"loss": loss, **terms}.items()}
        return output(leaf * window, measured, rows // module.data.layout.images, rows, rows)

    def _begin(self, module: SiameseModule) -> None:
        if not module.automatic_optimization:
            raise ConfigError(
                f"accumulation.mode=exact: {type(module).__name__} uses manual optimization; expected automatic "
                "optimization, or accumulation=naive"
            )
        alone = module.trainer.accumulate_grad_batches * module.trainer.world_size == 1
        if self._warned or alone or not any(isinstance(m, _BatchNorm) and m.training for m in module.net.modules()):
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


class SecondPasses:
    """The hook of the loss: pushes the ``gradients`` of the embeddings, and of the parameters
    ``of_loss`` after them, through the window's graphs, one at a time.

    Under DDP the ranks' gradients are synchronised once, with the last of these.
    """

    def __init__(
        self,
        module: SiameseModule,
        last: Tensor,
        held: list[Held],
        gradients: tuple[Tensor, ...],
        of_loss: list[nn.Parameter],
    ) -> None:
        self.module, self.last, self.held, self.of_loss = module, last, held, of_loss
        ranks = module.trainer.world_size  # DDP takes the mean over them
        self.of_embeddings = [gradient * ranks for gradient in gradients[: len(held) + 1]]
        self.gradients_of_loss = list(gradients[len(held) + 1 :])
        self.ddp = module.trainer.strategy.model
        self._synchronise(False)

    def __call__(self, scale: Tensor) -> None:
        """Do the passes; ``scale`` is a GradScaler's, and 1 without one."""
        after = random_state()
        passes: list[Tensor | Held] = [self.last, *self.held]  # the graph that is there already first, and freed
        gradients = [self.of_embeddings[-1], *self.of_embeddings[:-1]]
        for place, (one, gradient) in enumerate(zip(passes, gradients, strict=True)):
            embedded = [embed_again(self.module, one) if isinstance(one, Held) else one]
            into = [gradient]
            if place == len(self.held):
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


def show(module: SiameseModule, embeddings: list[Tensor], labels: list[Tensor]) -> tuple[list[Tensor], Seen]:
    """Embeddings [n_i, D] of micro-batches with ``labels`` [n_i], cut off from their graphs, as the leaves of
    what a loss is to be shown: the one batch that they, and those of the other ranks, are together."""
    layout = module.data.layout
    own = [z.detach().requires_grad_() for z in embeddings]
    mine = layout.join(own)
    ranks = gather(module, mine.detach())
    ranks[module.trainer.global_rank] = mine  # of the others' embeddings no gradient is wanted here
    return own, join(layout, list(zip(ranks, gather(module, layout.join(labels)), strict=True)))


def embed_again(module: SiameseModule, held: Held) -> Tensor:
    """The embeddings [n, D] of a micro-batch that has been embedded before, now with a graph."""
    restore_random_state(held.random)
    with torch.enable_grad(), module.trainer.precision_plugin.forward_context():
        return embed(module, held.batch.images)


@contextlib.contextmanager
def kept_buffers(net: nn.Module) -> Iterator[None]:
    """Give the buffers of ``net`` (the running statistics of BatchNorm, say) their values back."""
    before = [(buffer, buffer.clone()) for buffer in net.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in before:
            buffer.copy_(value)
