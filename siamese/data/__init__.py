"""Labelled images, their splits, the tuples drawn from them and the batches made of the tuples.

``siamese.data.NAME`` is what ``data.source._target_`` names of :mod:`siamese.data.sources`.
"""

from siamese.data.augment import crop_and_flip
from siamese.data.batch import Batch, Layout
from siamese.data.datamodule import SiameseData
from siamese.data.images import LabelledImages
from siamese.data.load import load, load_to_train
from siamese.data.sources.cars196 import cars196
from siamese.data.sources.cifar10 import cifar10
from siamese.data.sources.cub200 import cub200
from siamese.data.sources.digits import digits
from siamese.data.sources.fashion_mnist import fashion_mnist
from siamese.data.sources.image_folder import image_folder
from siamese.data.sources.in_shop import in_shop
from siamese.data.sources.label_file import label_file
from siamese.data.sources.mnist import emnist, kmnist, mnist
from siamese.data.sources.stanford_online_products import stanford_online_products
from siamese.data.splits import Split, split_images
from siamese.data.tuples import article_triplets, check_classes, draw_triplets

__all__ = [
    "Batch",
    "LabelledImages",
    "Layout",
    "SiameseData",
    "Split",
    "article_triplets",
    "cars196",
    "check_classes",
    "cifar10",
    "crop_and_flip",
    "cub200",
    "digits",
    "draw_triplets",
    "emnist",
    "fashion_mnist",
    "image_folder",
    "in_shop",
    "kmnist",
    "label_file",
    "load",
    "load_to_train",
    "mnist",
    "split_images",
    "stanford_online_products",
]
