"""Crops of a whole batch at once, each image at its own place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(images: Tensor, draws: Tensor, padding: int, flip: bool, border: str = "black") -> Tensor:
    """Crop each image at its own offset from a border of ``padding`` pixels, and mirror it.

    Args:
        images: uint8 [N, C, H, W].
        draws: [N, 3] in [0, 1): the vertical and horizontal offsets, uniform over the 2·padding + 1
            places, and the mirroring, of those below one half.

        border: ``black``, or ``reflection``, of fewer pixels than the image has.

    Returns:
        uint8 [N, C, H, W].
    """
    n, c, h, w = images.shape
    reflected = border == "reflection"
    padded = images if reflected else F.pad(images, (padding,) * 4)
    top = (draws[:, 0] * (2 * padding + 1)).long()
    left = (draws[:, 1] * (2 * padding + 1)).long()
    columns = torch.arange(w, device=images.device).expand(n, w)
    if flip:
        columns = torch.where(draws[:, 2:3] < 0.5, w - 1 - columns, columns)
    rows = top[:, None] + torch.arange(h, device=images.device)
    columns = left[:, None] + columns
    if reflected:
        rows, columns = _reflected(rows - padding, h), _reflected(columns - padding, w)
    flat = rows[:, :, None] * padded.shape[3] + columns[:, None, :]
    return padded.flatten(2).gather(2, flat.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)


def _reflected(places: Tensor, size: int) -> Tensor:
    """``places`` on an axis of ``size`` pixels, those beyond an end as far from it on this side."""
    return (size - 1) - ((size - 1) - places.abs()).abs()
