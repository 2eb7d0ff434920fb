"""Labelled images, their splits, the tuples drawn from them and the batches made of the tuples.

``siamese.data.NAME`` is what ``data.source._target_`` names of :mod:`siamese.data.sources`.
"""

from siamese.data.augment import crop_and_flip
from siamese.data.batch import Batch, Layout
from siamese.data.datamodule import SiameseData
from siamese.data.images import LabelledImages
from siamese.data.load import load, load_to_train
from siamese.data.sources.cifar10 import cifar10
from siamese.data.sources.digits import digits
from siamese.data.sources.fashion_mnist import fashion_mnist
from siamese.data.sources.image_folder import image_folder
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
    "cifar10",
    "crop_and_flip",
    "digits",
    "draw_triplets",
    "fashion_mnist",
    "image_folder",
    "load",
    "load_to_train",
    "split_images",
]
