"""Backbones of our own: small convolutional ones for small images, a multilayer perceptron, and layers
as a configuration lists them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from siamese.config.values import check_type, height_width
from siamese.errors import ConfigError, nearest
from siamese.models.base import Backbone, embedding_net


@embedding_net
def conv_small(width: int = 32) -> Backbone:
    """Four 3x3 convolutions with BatchNorm and ReLU, the last three each halving the image.

    Args:
        width: channels of the first; the others have 2, 4 and 4 times as many.
    """
    layers = nn.Sequential(
        _conv(3, width),
        _conv(width, 2 * width, pool=True),
        _conv(2 * width, 4 * width, pool=True),
        _conv(4 * width, 4 * width, pool=True),
        nn.BatchNorm2d(4 * width),  # centred: features after a ReLU alone would start as one direction
    )
    return Backbone(layers, 4 * width, f"conv_small with model.width={width}")


@embedding_net
def resnet9(width: int = 32) -> Backbone:
    """Eight 3x3 convolutions with BatchNorm, four of them in two residual blocks (He et al. 2015,
    equation 1), made for 32x32 images and random weights.

    Args:
        width: channels of the first; it ends with 8 times as many.
    """
    layers = nn.Sequential(
        _conv(3, width),
        _conv(width, 2 * width, pool=True),
        Residual(_conv(2 * width, 2 * width), _conv(2 * width, 2 * width)),
        _conv(2 * width, 4 * width, pool=True),
        _conv(4 * width, 8 * width, pool=True),
        Residual(_conv(8 * width, 8 * width), _conv(8 * width, 8 * width)),
        nn.BatchNorm2d(8 * width),  # centred: features after a ReLU alone would start as one direction
    )
    return Backbone(layers, 8 * width, f"resnet9 with model.width={width}")


@embedding_net
def mlp(image_size: int | list[int], width: int = 128, dropout: float = 0.1, grey: bool = False) -> Backbone:
    """Flatten, then three linear layers with ReLU, dropout between them. The weights start as Keras
    draws them (Glorot and Bengio 2010, equation 16; biases 0).

    Args:
        width: of each layer.
        dropout: the share of activations that is dropped.
        grey: see the mean of the channels only.
    """
    sizes = [math.prod(height_width(image_size)) * (1 if grey else 3), width, width, width]
    layers = nn.Sequential(*[Grey()] * grey, nn.Flatten())
    for i, (size, out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(size, out)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        layers.extend([*[nn.Dropout(dropout)] * (i > 0), linear, nn.ReLU()])
    name = f"mlp with data.image_size={image_size}, model.width={width} and model.grey={str(grey).lower()}"
    return Backbone(layers, width, name)


# The layers that ``sequential`` may have. Those with a Lazy in front find out themselves what comes in.
LAYERS: dict[str, type[nn.Module]] = {
    "Conv2d": nn.LazyConv2d,
    "Linear": nn.LazyLinear,
    "BatchNorm1d": nn.LazyBatchNorm1d,
    "BatchNorm2d": nn.LazyBatchNorm2d,
}
for _layer in (
    *(nn.GroupNorm, nn.LayerNorm, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Dropout, nn.Dropout2d),
):
    LAYERS[_layer.__name__] = _layer


@embedding_net
def sequential(image_size: int | list[int], layers: list[Any]) -> Backbone:
    """Layers of torch.nn, one after the other.

    Args:
        layers: each a name (``ReLU``) or a name with arguments (``Conv2d: {out_channels: 32,
            kernel_size: 3}``), of :data:`LAYERS`; what comes in is not to be given. The last gives
            [N, F, h, w] or [N, F].

    Raises:
        ConfigError: for a layer that is not one of these, an argument that it does not take, lacks or
            has in a wrong type, and one that what comes before it does not fit.
    """
    made = nn.Sequential()
    x = torch.zeros(2, 3, *height_width(image_size))
    for i, entry in enumerate(layers):
        name, arguments = _entry(i, entry)
        try:
            layer = LAYERS[name](**arguments)
            x = layer(x)
        except (TypeError, ValueError, RuntimeError) as error:
            shape, reason = "x".join(map(str, x.shape[1:])), str(error).splitlines()[0]
            raise ConfigError(f"model.layers[{i}]: {name} cannot be made of or for {shape} ({reason})") from None
        made.append(layer)
    if x.dim() not in (2, 4):
        raise ConfigError(f"model.layers: expected to end with [N, F] or [N, F, h, w], found {x.dim()} dimensions")
    for layer in made.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()  # of the zeros above
    return Backbone(made, x.shape[1], "these model.layers")


def _entry(i: int, entry: Any) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of layer ``i``, each of them known to torch."""
    name, arguments = next(iter(entry.items())) if isinstance(entry, Mapping) and len(entry) == 1 else (entry, {})
    if not isinstance(name, str) or not isinstance(arguments, Mapping):
        raise ConfigError(f"model.layers[{i}]={entry}: expected NAME, or NAME: {{ARGUMENT: VALUE, ...}}")
    if name not in LAYERS:
        raise ConfigError(f"model.layers[{i}]={name}: expected one of {', '.join(LAYERS)}{nearest(name, LAYERS)}")
    known = inspect.signature(LAYERS[name]).parameters
    hints = get_type_hints(LAYERS[name].__init__)
    for key, value in arguments.items():
        if key not in known or key in ("device", "dtype"):
            raise ConfigError(
                f"unknown key 'model.layers[{i}].{name}.{key}': {name} takes {', '.join(known)}{nearest(key, known)}"
            )
        if key in hints:
            check_type(f"model.layers[{i}].{name}.{key}", value, hints[key])
    return name, dict(arguments)


class Grey(nn.Module):
    """The mean of the channels, [N, C, H, W] → [N, 1, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)


class Residual(nn.Sequential):
    """``x + f(x)``, f the layers in sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _conv(channels: int, out: int, *, pool: bool = False) -> nn.Sequential:
    """3x3 convolution, 2x2 max pooling if asked (before the rest, which then has a quarter to do),
    BatchNorm, ReLU."""
    pooling = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, padding=1, bias=False), *pooling, nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )
