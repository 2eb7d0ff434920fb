"""Labelled images, their splits, the tuples drawn from them and the batches made of the tuples."""

from siamese.data.batches import Batch, crop_and_flip
from siamese.data.layout import Layout
from siamese.data.module import SiameseData
from siamese.data.sources import LabelledImages, load
from siamese.data.splits import Split, split_images
from siamese.data.tuples import article_triplets, check_classes, draw_triplets

__all__ = [
    "Batch",
    "LabelledImages",
    "Layout",
    "SiameseData",
    "Split",
    "article_triplets",
    "check_classes",
    "crop_and_flip",
    "draw_triplets",
    "load",
    "split_images",
]
