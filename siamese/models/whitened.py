"""A convolutional backbone that trains fast from random weights: behind fixed filters that whiten the pixels of the
training images, with convolutions that start as the identity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from siamese.errors import ConfigError, nearest
from siamese.models.base import Backbone, embedding_net

REGULARISER = 5e-4  # added to the variances, of normalised pixels, so that noise is not blown up
GROUP = 16  # channels that GroupNorm takes together
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "group": lambda width: nn.GroupNorm(width // GROUP, width),
}


@embedding_net
def conv_whitened(widths: list[int], pool: bool = True, dirac: bool = True, norm: str = "batch") -> Backbone:
    """A fixed 2x2 whitening convolution, then for each of ``widths`` a 3x3 convolution, 2x2 max pooling, BatchNorm and
    GELU, and another 3x3 convolution with BatchNorm and GELU (after Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a
    single GPU, section 3).

    Args:
        widths: channels of each block, one or more.
        pool: the largest of each feature over space at the end, in the place of their mean.
        dirac: start convolutions as the identity of as many channels as come in; the filters that are left, and all
            of them without ``dirac``, are as torch draws them.
        norm: "batch", or "group" for GroupNorm of 16 channels a group (Wu and He 2018) in the place of BatchNorm, with
            which no image sees the others of its micro-batch.

    Raises:
        ConfigError: for widths that are none, below 1 or not of whole groups, and for another norm.
    """
    if not widths or min(widths) < 1:
        raise ConfigError(f"model.widths={widths}: expected a list of one whole number from 1 or more")
    if norm not in NORMS:
        raise ConfigError(f"model.norm={norm}: expected one of {', '.join(NORMS)}{nearest(norm, NORMS)}")
    if norm == "group" and any(width % GROUP for width in widths):
        raise ConfigError(f"model.widths={widths}: with model.norm=group expected multiples of {GROUP}")
    whitening = Whitening()
    layers = nn.Sequential(whitening, nn.GELU())
    for channels, width in zip([whitening.out_channels, *widths[:-1]], widths, strict=True):
        layers.extend(
            [
                *(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.MaxPool2d(2)),
                *(NORMS[norm](width), nn.GELU()),
                *(nn.Conv2d(width, width, 3, padding=1, bias=False), NORMS[norm](width), nn.GELU()),
            ]
        )
    if dirac:
        for layer in layers[1:]:
            if isinstance(layer, nn.Conv2d):
                start_as_identity(layer)
    if pool:
        layers.append(nn.AdaptiveMaxPool2d(1))
    return Backbone(layers, widths[-1], f"conv_whitened with model.widths={widths}")


def start_as_identity(layer: nn.Conv2d) -> None:
    """Let the first filters of ``layer`` hand on the channels that come in, one each (Zagoruyko and Komodakis 2017,
    DiracNets, section 3)."""
    with torch.no_grad():
        nn.init.dirac_(layer.weight[: layer.in_channels])


class Whitening(nn.Conv2d):
    """Filters that make the patches of normalised images uncorrelated and of variance 1, each with its negative, so
    that the next non-linearity loses nothing (Jordan 2024, section 3.2): [N, 3, H, W] → [N, 24, H − 1, W − 1].

    They are computed of images once, by :meth:`fit`, and not trained, other than what is added to them. They are
    weights like others: a checkpoint has them, and whoever loads it needs no images.

    Attributes:
        fitted: whether they have been computed, or loaded.
    """

    fitted: Tensor

    def __init__(self, size: int = 2) -> None:
        super().__init__(3, 2 * 3 * size**2, size)
        self.weight.requires_grad_(False)
        self.register_buffer("fitted", torch.tensor(False))

    def fit(self, images: Tensor) -> None:
        """Compute the filters of normalised ``images`` [N, 3, H, W], unless they are there already: the eigenvectors of
        the covariance of their patches, over the square roots of its eigenvalues, the largest first.

        Raises:
            ConfigError: for images smaller than the filters.
        """
        if self.fitted:
            return
        size = self.kernel_size[0]
        if min(images.shape[2:]) < size:
            found = "x".join(map(str, images.shape[2:]))
            raise ConfigError(f"data.image_size: whitening needs {size}x{size} pixels or more, found {found}")
        patches = nn.functional.unfold(images.double(), size).transpose(1, 2).flatten(0, 1)
        covariance = patches.t() @ patches / len(patches)
        variances, vectors = torch.linalg.eigh(covariance)
        filters = (vectors / (variances + REGULARISER).sqrt()).flip(1).t()
        largest = filters.gather(1, filters.abs().argmax(1, keepdim=True))
        filters = filters * largest.sign()  # an eigenvector has no sign of its own; take one on every machine
        assert self.bias is not None
        with torch.no_grad():
            self.bias.zero_()
            self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))
            self.fitted.fill_(True)
