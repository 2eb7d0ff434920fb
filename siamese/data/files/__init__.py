"""Collections of image files: found, decoded in parallel once, and kept as pixels that are read when asked for."""

from siamese.data.files.collection import ImageFiles, collection
from siamese.decoding.decode import Decoding

__all__ = ["Decoding", "ImageFiles", "collection"]
