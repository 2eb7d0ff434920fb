"""Accumulation with a memory: each micro-batch's loss beside embeddings that have gone before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from siamese.accumulation.distributed import embed, union
from siamese.accumulation.naive import last_window_scale
from siamese.accumulation.window import Seen, output, place_in
from siamese.data import Batch
from siamese.losses import References

if TYPE_CHECKING:
    from siamese.module import SiameseModule


class Memory:
    """A step descends the mean of its micro-batches' losses, each over the micro-batch and detached
    references: the embeddings of its window so far (``scope="window"``), or of the last micro-batches
    whatever their window (``"persistent"``, as in Wang, Zhang, Huang and Scott 2020, Cross-batch
    memory for embedding learning, section 3); at most the last ``size``.

    An approximation of the whole window's gradient: exact for the last micro-batch of a window, whose
    references are all the others, and for each before it lacking those still to come. References of
    earlier windows are moreover embeddings of earlier weights.

    Attributes:
        bank: the references, oldest first (so there is no position to keep beside them), or None.
    """

    def __init__(self, scope: str = "window", size: int | None = None, rescale_last_window: bool = True) -> None:
        self.scope, self.size, self.rescale_last_window = scope, size, rescale_last_window
        self.bank: References | None = None

    def step(self, module: SiameseModule, batch: Batch, batch_idx: int) -> dict[str, Any]:
        if self.scope == "window" and place_in(module.trainer, batch_idx).first:
            self.bank = None
        seen = union(module, embed(module, batch.images), batch)
        loss, terms = module.objective(*seen, references=self.bank)
        scale = last_window_scale(module, batch_idx) if self.rescale_last_window else 1.0
        rows = len(seen.labels)
        beside = 0 if self.bank is None else len(self.bank.labels)
        self.bank = remember(self.bank, seen, self.size)
        return output(loss * scale, {"loss": loss, **terms}, rows // module.data.layout.images, rows, rows + beside)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.bank is None else self.bank._asdict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.bank = References(**state_dict) if state_dict else None


def remember(bank: References | None, seen: Seen, size: int | None) -> References:
    """``bank`` with the batch that was ``seen`` at its end, and of all that the last ``size``."""
    embeddings, labels = seen.embeddings.detach(), seen.labels
    if bank is not None:
        embeddings = torch.cat([bank.embeddings.to(embeddings), embeddings])
        labels = torch.cat([bank.labels.to(labels), labels])
    keep = slice(-size if size else None, None)
    return References(embeddings[keep].clone(), labels[keep].clone())
