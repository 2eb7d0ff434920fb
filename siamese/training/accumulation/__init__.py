"""How micro-batches become one optimizer step.

Each way is an object with ``step(learner, batch, batch_idx)``, which returns what a training step
returns (see :func:`siamese.training.window.output`), and with a ``state_dict`` for checkpoints.
"""

from siamese.training.accumulation.exact import Exact
from siamese.training.accumulation.memory import Memory
from siamese.training.accumulation.naive import Naive
from siamese.training.accumulation.statement import statement

Accumulation = Naive | Exact | Memory

__all__ = ["Accumulation", "Exact", "Memory", "Naive", "statement"]
