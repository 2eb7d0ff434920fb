"""What an embedding is worth: pure functions of (embeddings, labels, tuples), one module a question.
The names are in :mod:`.metrics`; :func:`.measure.measure` answers all questions at once. Nothing here
knows of training, and this file, :mod:`.geometry` and :mod:`.projection` import no torch."""

from siamese.evaluation.names import METRICS, Undefined

__all__ = ["METRICS", "Undefined"]
