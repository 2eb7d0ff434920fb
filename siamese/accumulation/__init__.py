"""How micro-batches become one optimizer step.

Each mode is an object with ``step(module, batch, batch_idx)``, which returns what a training step
returns (see :func:`siamese.accumulation.window.output`), and with a ``state_dict`` for checkpoints.
"""

from siamese.accumulation.exact import Exact
from siamese.accumulation.memory import Memory
from siamese.accumulation.meter import GradientMeter
from siamese.accumulation.naive import Naive
from siamese.accumulation.statement import statement

Accumulation = Naive | Exact | Memory

__all__ = ["Accumulation", "Exact", "GradientMeter", "Memory", "Naive", "statement"]
