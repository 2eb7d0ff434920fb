"""Where labelled images come from, a file each: functions that ``data.source._target_`` names.

Such a function returns :class:`siamese.data.images.LabelledImages`. Of the keys of ``data`` it is handed those in
:data:`siamese.config.schema.HANDED_TO_SOURCE` that it takes; whatever else it takes stands below ``data.source``.
"""

from siamese.data.sources.cifar10 import cifar10
from siamese.data.sources.digits import digits
from siamese.data.sources.fashion_mnist import fashion_mnist
from siamese.data.sources.image_folder import image_folder
from siamese.data.sources.load import load

__all__ = ["cifar10", "digits", "fashion_mnist", "image_folder", "load"]
