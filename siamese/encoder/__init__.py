"""A trained embedding, to be used: images in, vectors out, and what is near what."""

from siamese.encoder.classify import Classified
from siamese.encoder.encoder import Encoder, Same
from siamese.encoder.gallery import Gallery, Neighbours, Searchable
from siamese.encoder.load import load_run
from siamese.encoder.thresholds import Threshold

__all__ = ["Classified", "Encoder", "Gallery", "Neighbours", "Same", "Searchable", "Threshold", "load_run"]
