"""What an embedding is worth: pure functions of (embeddings, labels, tuples)."""

from siamese.evaluation.verification import METRICS, mean_cosine, roc, verification

__all__ = ["METRICS", "mean_cosine", "roc", "verification"]
