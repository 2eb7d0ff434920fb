"""Accumulation with a memory: each micro-batch's loss beside embeddings that have gone before."""

from __future__ import annotations

from typing import Any

import torch

from siamese.data import Batch
from siamese.losses import References
from siamese.training.accumulation.naive import last_window_scale
from siamese.training.learner import Learner
from siamese.training.window import LossInput, output


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

    def step(self, learner: Learner, batch: Batch, batch_idx: int) -> dict[str, Any]:
        if self.scope == "window" and learner.place(batch_idx).first:
            self.bank = None
        given = learner.union(learner.embed(batch.images), batch)
        loss, terms = learner.objective(*given, references=self.bank)
        scale = last_window_scale(learner, batch_idx) if self.rescale_last_window else 1.0
        rows = len(given.labels)
        beside = 0 if self.bank is None else len(self.bank.labels)
        self.bank = remember(self.bank, given, self.size)
        return output(loss * scale, {"loss": loss, **terms}, rows // learner.layout.images, rows, rows + beside)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.bank is None else self.bank._asdict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.bank = References(**state_dict) if state_dict else None


def remember(bank: References | None, given: LossInput, size: int | None) -> References:
    """``bank`` with the embeddings that a loss was ``given`` at its end, and of all that the last ``size``."""
    embeddings, labels = given.embeddings.detach(), given.labels
    if bank is not None:
        embeddings = torch.cat([bank.embeddings.to(embeddings), embeddings])
        labels = torch.cat([bank.labels.to(labels), labels])
    keep = slice(-size if size else None, None)
    return References(embeddings[keep].clone(), labels[keep].clone())
