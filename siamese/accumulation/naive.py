"""Naive accumulation, Lightning's own: the mean of the micro-batches' losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siamese.accumulation.distributed import embed, union
from siamese.accumulation.window import output, place_in
from siamese.data import Batch

if TYPE_CHECKING:
    from siamese.module import SiameseModule


class Naive:
    """Each micro-batch has its own loss; a step descends their mean.

    Lightning divides every loss by ``accumulate_grad_batches``, in the shorter last window of an
    epoch too. Unless ``rescale_last_window`` is false, that window is a plain mean as well.
    """

    def __init__(self, rescale_last_window: bool = True) -> None:
        self.rescale_last_window = rescale_last_window

    def step(self, module: SiameseModule, batch: Batch, batch_idx: int) -> dict[str, Any]:
        seen = union(module, embed(module, batch.images), batch)
        loss, terms = module.objective(*seen)
        scale = last_window_scale(module, batch_idx) if self.rescale_last_window else 1.0
        rows = len(seen.labels)
        return output(loss * scale, {"loss": loss, **terms}, rows // module.data.layout.images, rows, rows)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def last_window_scale(module: SiameseModule, batch_idx: int) -> float:
    """What a micro-batch's loss is multiplied by so that its window is a plain mean: 1 but in a
    shorter last window."""
    window = module.trainer.accumulate_grad_batches
    return window / place_in(module.trainer, batch_idx).length
