"""scikit-learn's handwritten digits, which come with the package."""

from __future__ import annotations

import numpy as np
import torch

from siamese.config.values import height_width
from siamese.data.images import LabelledImages
from siamese.memory import check_images_fit


def digits(image_size: int | list[int]) -> LabelledImages:
    """scikit-learn's 1,797 digits (0 to 16 grey, 8x8) as 3 x image_size x image_size; every fifth image of
    each class, in the package's order, is the test part."""
    from sklearn.datasets import load_digits

    size, bunch = height_width(image_size), load_digits()
    check_images_fit(len(bunch.target), size)
    grey = torch.from_numpy(bunch.images).float().mul(255 / 16).unsqueeze(1)
    grown = torch.nn.functional.interpolate(grey, size, mode="bilinear", align_corners=False)
    labels = torch.from_numpy(bunch.target).long()
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(bunch.target == label)[4::5]] = True
    return LabelledImages(
        grown.round().to(torch.uint8).expand(-1, 3, -1, -1).contiguous(),
        labels,
        tuple(str(d) for d in range(10)),
        np.array([f"digits/{i:04d}" for i in range(len(labels))]),
        is_test,
    )
