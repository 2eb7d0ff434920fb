"""How micro-batches become one optimizer step."""

from __future__ import annotations

from siamese.data.items import IMAGES
from siamese.losses import Objective
from siamese.schema import Config


def window_scale(batch_idx: int, batches: int, window: int) -> float:
    """What the loss of a micro-batch is multiplied by so that its window is a plain mean.

    Lightning divides every loss by ``window`` (``accumulate_grad_batches``) and also steps on a
    shorter last window of the epoch; the factor is ``window / length`` there and 1 elsewhere.
    """
    first = batch_idx - batch_idx % window
    return window / min(window, batches - first)


def statement(config: Config, objective: Objective, devices: int) -> str:
    """One line on what an optimizer step sees."""
    kind = config.batches.kind
    unit = kind if kind in ("triplets", "pairs") else "images"
    size, window = config.data.batch_size, config.trainer.accumulate_grad_batches
    line = (
        f"micro-batch {size} {unit} × window {window} × {devices} device{'s' * (devices > 1)} "
        f"= {size * window * devices} {unit} a step"
    )
    if objective.koleo_weight:
        seen = {"all": IMAGES.get(kind, 1) * size, "anchors": size, "per_role": size}[objective.koleo.over]
        roles = " of each role" if objective.koleo.over == "per_role" else ""
        line += f"; KoLeo sees {seen} embeddings{roles}"
    return line
