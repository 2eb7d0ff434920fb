"""What an optimizer step sees, in a line."""

from __future__ import annotations

from siamese.config.schema import Config
from siamese.data.batches import Kind
from siamese.losses import Objective


def statement(config: Config, kind: Kind, objective: Objective, devices: int) -> str:
    """One line on what an optimizer step sees."""
    size, window = config.data.batch_size, config.trainer.accumulate_grad_batches
    line = (
        f"micro-batch {size} {kind.unit} × window {window} × {devices} device{'s' * (devices > 1)} "
        f"= {size * window * devices} {kind.unit} a step"
    )
    each = kind.images // kind.counted
    together = size * devices * (window if config.accumulation.mode == "exact" else 1)
    if objective.koleo_weight:
        seen = {"all": each * together, "anchors": together, "per_role": together}[objective.koleo.over]
        roles = " of each role" if objective.koleo.over == "per_role" else ""
        line += f"; KoLeo sees {seen} embeddings{roles}"
    elif objective.batch_dependent:
        line += f"; the loss sees {each * together} embeddings"
    else:
        return line
    return line + _references(config, each * size * devices)


def _references(config: Config, embeddings: int) -> str:
    """What ``accumulation=memory`` adds to a micro-batch of so many ``embeddings``."""
    accumulation = config.accumulation
    if accumulation.mode != "memory":
        return ""
    window = embeddings * (config.trainer.accumulate_grad_batches - 1)
    most = accumulation.size if accumulation.scope == "persistent" else min(window, accumulation.size or window)
    return f" and up to {most} references without gradient"
