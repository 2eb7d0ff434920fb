"""Images to be found by what they show: an index of embeddings on disk, and its search."""

from siamese.index.index import Found, Index, open_index

__all__ = ["Found", "Index", "open_index"]
