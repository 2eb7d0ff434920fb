"""Images of any shape brought to the size wanted."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate


def fitted(image: Image.Image, size: tuple[int, int], fit: str, background: tuple[int, ...]) -> np.ndarray:
    """The RGB ``image`` as uint8 [3, H, W] for ``size``, its height and width, as ``data.fit`` says: ``crop`` keeps the
    largest centre of that shape, in whole pixels; ``pad`` centres the whole on ``background``; ``stretch`` keeps all.
    """
    height, width = size
    if image.size == (width, height):
        return np.asarray(image).transpose(2, 0, 1)
    if fit == "stretch":
        return _resized(image, size)
    if fit == "crop":
        scale = min(image.width / width, image.height / height)
        across, down = (max(1, round(side * scale)) for side in (width, height))
        left, top = (image.width - across) // 2, (image.height - down) // 2
        return _resized(image.crop((left, top, left + across, top + down)), size)
    scale = min(width / image.width, height / image.height)
    across, down = (max(1, round(side * scale)) for side in image.size)
    left, top = (width - across) // 2, (height - down) // 2
    whole = np.empty((3, height, width), np.uint8)
    whole[:] = np.array(background, np.uint8)[:, None, None]
    whole[:, top : top + down, left : left + across] = _resized(image, (down, across))
    return whole


def _resized(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """``image`` at ``size`` by a bicubic filter, a = -1/2 and as wide as the reduction asks for. It is Pillow's as
    torch does it, which takes less time: values differ by a level or two, and by more only where one side shrinks while
    the other grows, since torch begins with another of them.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a pixel's values together in memory: the fastest
    return interpolate(pixels[None], size, mode="bicubic", antialias=True)[0].numpy()
