"""Augmentation of a whole batch, on its device, with draws that are given: what ``data.augment._target_`` names.

Every image has draws of its own, each uniform in [0, 1) and a function of (seed, epoch, place), so that the same place
of the same epoch looks the same however the epoch is cut into batches.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from siamese.config.data import Data
from siamese.config.targets import make
from siamese.data.crops import crop_and_flip
from siamese.errors import ConfigError

GREY = (0.2989, 0.587, 0.114)  # what red, green and blue weigh (ITU-R BT.601)


class Augmentation(ABC):
    """Changes images of a batch, each by its own draws.

    Attributes:
        draws: how many uniform numbers an image takes.
        alternating: which of them, by position, do not belong to a place of an epoch but to an image: half a turn
            further in each epoch than in the one before (a number u of epoch 0 is u + ½ in epoch 1, less the whole).
    """

    draws: int
    alternating: Sequence[int] = ()

    @abstractmethod
    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """``images``, uint8 [N, 3, H, W], each changed by its row of ``draws``, float32 [N, self.draws]."""


class Compose(Augmentation):
    """``steps`` one after the other, in the order of their names in the configuration."""

    def __init__(self, steps: Mapping[str, Augmentation]) -> None:
        strange = [name for name, step in steps.items() if not isinstance(step, Augmentation)]
        if strange:
            raise ValueError(f"steps.{strange[0]}: expected a siamese.data.augment.Augmentation")
        self.steps = tuple(steps.values())
        self.draws = sum(step.draws for step in self.steps)
        starts = accumulate([step.draws for step in self.steps], initial=0)
        self.alternating = [
            start + place for start, step in zip(starts, self.steps, strict=False) for place in step.alternating
        ]

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        for step, own in zip(self.steps, draws.split([s.draws for s in self.steps], dim=1), strict=True):
            images = step(images, own)
        return images


class CropFlip(Augmentation):
    """A crop of the original size from within a border of ``crop_padding`` pixels, and with ``flip`` every second
    image mirrored.

    Args:
        flip: ``alternating``: not every second image of an epoch, but every image in every second epoch (Jordan 2024,
            94% on CIFAR-10 in 3.29 seconds on a single GPU, section 3.6).
        border: ``black``, or ``reflection``: what is in the image, as far from its edge, and the edge once.
    """

    draws = 3

    def __init__(
        self,
        crop_padding: int = 4,
        flip: bool | Literal["alternating"] = True,
        border: Literal["black", "reflection"] = "black",
    ) -> None:
        self.crop_padding, self.flip, self.border = crop_padding, bool(flip), border
        self.alternating = (2,) if flip == "alternating" else ()

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        if not self.crop_padding and not self.flip:
            return images
        return crop_and_flip(images, draws, self.crop_padding, self.flip, self.border)


class Flip(Augmentation):
    """A share ``p`` of the images mirrored, left to right."""

    draws = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = _share("p", p)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return torch.where(_some(draws[:, 0], self.p), images.flip(3), images)


class ResizedCrop(Augmentation):
    """A part of the image brought to the size of the whole (Szegedy et al. 2015, section 6): a share ``scale`` of its
    area, of a shape ``ratio`` (width over height, even on a logarithmic scale), anywhere in it. What would be larger
    than the image is cut to it."""

    draws = 4

    def __init__(self, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)) -> None:
        if not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
            raise ValueError(f"scale={list(scale)}: expected two shares above 0 and up to 1, the smaller first")
        if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
            raise ValueError(f"ratio={list(ratio)}: expected two numbers above 0, the smaller first")
        self.scale, self.ratio = scale, ratio

    def box(self, draws: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Top, left, height and width [N] of each part, in whole pixels."""
        area = height * width * (self.scale[0] + draws[:, 0] * (self.scale[1] - self.scale[0]))
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        ratio = torch.exp(low + draws[:, 1] * (high - low))
        h = (area / ratio).sqrt().round().clamp(1, height)
        w = (area * ratio).sqrt().round().clamp(1, width)
        return (draws[:, 2] * (height - h + 1)).floor(), (draws[:, 3] * (width - w + 1)).floor(), h, w

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        height, width = images.shape[2:]
        top, left, h, w = self.box(draws, height, width)
        # Bilinear between the centres of pixels, which are never taken from beyond the part.
        y = _along(top, h, height)[:, :, None].expand(-1, -1, width)
        x = _along(left, w, width)[:, None, :].expand(-1, height, -1)
        grid = torch.stack([2 * x / max(1, width - 1) - 1, 2 * y / max(1, height - 1) - 1], dim=3)
        return _uint8(F.grid_sample(images.float(), grid, padding_mode="border", align_corners=True))


class ColorJitter(Augmentation):
    """For a share ``p`` of the images: brightness, contrast and saturation times a factor up to 1 ± what is given,
    then the hue turned by up to ± ``hue`` of a whole turn, in this order."""

    draws = 5

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        p: float = 1.0,
    ) -> None:
        self.factors = [
            _positive("brightness", brightness),
            _positive("contrast", contrast),
            _positive("saturation", saturation),
        ]
        if not 0 <= hue <= 0.5:
            raise ValueError(f"hue={hue}: expected a number from 0 to 0.5, of a whole turn")
        self.hue, self.p = hue, _share("p", p)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        chosen = _some(draws[:, 0], self.p)
        x = images.float() / 255
        brightness, contrast, saturation = (
            ((1 - factor) + 2 * factor * draws[:, i + 1]).clamp(min=0)[:, None, None, None]
            for i, factor in enumerate(self.factors)
        )
        x = (x * brightness).clamp(0, 1)
        x = torch.lerp(_grey(x).mean((1, 2, 3), keepdim=True), x, contrast).clamp(0, 1)
        x = torch.lerp(_grey(x), x, saturation).clamp(0, 1)
        if self.hue:
            x = turn_hue(x, self.hue * (2 * draws[:, 4] - 1))
        return torch.where(chosen, _uint8(x * 255), images)


class Grayscale(Augmentation):
    """A share ``p`` of the images without colour."""

    draws = 1

    def __init__(self, p: float = 0.2) -> None:
        self.p = _share("p", p)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return torch.where(_some(draws[:, 0], self.p), _uint8(_grey(images.float())), images)


class GaussianBlur(Augmentation):
    """A share ``p`` of the images blurred, with a standard deviation in ``sigma`` (pixels) and a kernel as wide as a
    tenth of the image (Chen et al. 2020, appendix A)."""

    draws = 2

    def __init__(self, sigma: Sequence[float] = (0.1, 2.0), p: float = 0.5) -> None:
        if not (len(sigma) == 2 and 0 < sigma[0] <= sigma[1]):
            raise ValueError(f"sigma={list(sigma)}: expected two numbers of pixels above 0, the smaller first")
        self.sigma, self.p = sigma, _share("p", p)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        n, c, h, w = images.shape
        sigma = self.sigma[0] + draws[:, 1] * (self.sigma[1] - self.sigma[0])
        x = images.float().reshape(1, n * c, h, w)
        for side, axis in ((h, 2), (w, 3)):
            half = max(1, side // 20)
            places = torch.arange(-half, half + 1, device=images.device)
            kernel = torch.softmax(-(places**2) / (2 * sigma[:, None] ** 2), dim=1).repeat_interleave(c, 0)
            shape, border = [n * c, 1, 1, 1], [0, 0, 0, 0]
            shape[axis], border[2 * (3 - axis)], border[2 * (3 - axis) + 1] = len(places), half, half
            x = F.conv2d(F.pad(x, border, mode="replicate"), kernel.view(shape), groups=n * c)
        return torch.where(_some(draws[:, 0], self.p), _uint8(x.view(n, c, h, w)), images)


class Cutout(Augmentation):
    """A square of the image's mean colour, ``share`` of the shorter side wide, about any of its pixels, so that part
    of it may lie outside (DeVries and Taylor 2017, section 3.2)."""

    draws = 2

    def __init__(self, share: float = 0.5) -> None:
        self.share = _share("share", share)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        h, w = images.shape[2:]
        side = round(self.share * min(h, w))
        covered = []
        for draw, length in ((draws[:, 0], h), (draws[:, 1], w)):
            first = (draw * length).floor() - side // 2
            place = torch.arange(length, device=images.device)
            covered.append((place >= first[:, None]) & (place < first[:, None] + side))
        square = (covered[0][:, :, None] & covered[1][:, None, :])[:, None]
        return torch.where(square, _uint8(images.float().mean((2, 3), keepdim=True)), images)


def make_augmentation(data: Data) -> Augmentation | None:
    """What ``data.augment`` names; None leaves images as they are.

    Raises:
        ConfigError: for a target that is none, or refuses its arguments.
    """
    if data.augment.get("_target_") is None:
        return None
    made = make("data.augment", data.augment)
    if not isinstance(made, Augmentation):
        raise ConfigError(
            f"data.augment._target_={data.augment['_target_']}: expected a siamese.data.augment.Augmentation, "
            f"found {type(made).__name__}"
        )
    return made


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """``images``, float [N, 3, H, W] in [0, 1], with the hue of each turned by ``turns`` [N] of a whole turn
    (Smith 1978, the hexcone model: value and saturation stay)."""
    value, least = images.amax(1), images.amin(1)
    chroma = value - least
    red, green, blue = images.unbind(1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sixth = torch.where(
        value == red,
        ((green - blue) / safe) % 6,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sixth = sixth + 6 * turns[:, None, None]
    channels = [(sixth + offset) % 6 for offset in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels], dim=1)


def _along(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where the centres of ``size`` pixels lie that cover ``length`` pixels from ``start`` on, [N, size]."""
    places = (torch.arange(size, device=start.device) + 0.5) * (length / size)[:, None] - 0.5
    return start[:, None] + torch.minimum(places.clamp(min=0), length[:, None] - 1)


def _some(draw: Tensor, share: float) -> Tensor:
    """Whether each image is among a ``share`` of them, [N, 1, 1, 1]."""
    return (draw < share)[:, None, None, None]


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor(GREY, device=images.device, dtype=images.dtype)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def _uint8(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}={value}: expected a share from 0 to 1")
    return value


def _positive(name: str, value: float) -> float:
    if value < 0:
        raise ValueError(f"{name}={value}: expected a number from 0")
    return value
