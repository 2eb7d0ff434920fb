"""Naive accumulation, Lightning's own: the mean of the micro-batches' losses."""

from __future__ import annotations

from typing import Any

from siamese.data import Batch
from siamese.training.learner import Learner
from siamese.training.window import output


class Naive:
    """Each micro-batch has its own loss; a step descends their mean.

    Lightning divides every loss by ``accumulate_grad_batches``, in the shorter last window of an
    epoch too. Unless ``rescale_last_window`` is false, that window is a plain mean as well.
    """

    def __init__(self, rescale_last_window: bool = True) -> None:
        self.rescale_last_window = rescale_last_window

    def step(self, learner: Learner, batch: Batch, batch_idx: int) -> dict[str, Any]:
        given = learner.union(learner.embed(batch.images), batch)
        loss, terms = learner.objective(*given)
        scale = last_window_scale(learner, batch_idx) if self.rescale_last_window else 1.0
        rows = len(given.labels)
        return output(loss * scale, {"loss": loss, **terms}, rows // learner.layout.images, rows, rows)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def last_window_scale(learner: Learner, batch_idx: int) -> float:
    """What a micro-batch's loss is multiplied by so that its window is a plain mean: 1 but in a
    shorter last window."""
    return learner.window / learner.place(batch_idx).length
