"""Augmentation of a whole batch, on its device, with draws that are given."""

from __future__ import annotations

import torch
from torch import Tensor


def crop_and_flip(images: Tensor, draws: Tensor, padding: int, flip: bool) -> Tensor:
    """Crop each image at its own offset from a border of ``padding`` black pixels, and mirror it.

    Args:
        images: uint8 [N, C, H, W].
        draws: [N, 3] in [0, 1): the vertical and horizontal offsets, uniform over the 2·padding + 1
            places, and the mirroring, of those below one half.

    Returns:
        uint8 [N, C, H, W].
    """
    n, c, h, w = images.shape
    padded = torch.nn.functional.pad(images, (padding,) * 4)
    top = (draws[:, 0] * (2 * padding + 1)).long()
    left = (draws[:, 1] * (2 * padding + 1)).long()
    columns = torch.arange(w, device=images.device).expand(n, w)
    if flip:
        columns = torch.where(draws[:, 2:3] < 0.5, w - 1 - columns, columns)
    rows = top[:, None] + torch.arange(h, device=images.device)
    flat = rows[:, :, None] * (w + 2 * padding) + (left[:, None] + columns)[:, None, :]
    return padded.flatten(2).gather(2, flat.view(n, 1, h * w).expand(n, c, h * w)).view(n, c, h, w)
