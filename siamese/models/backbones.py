"""The embedding networks that ``model=`` chooses from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import torch
import torchvision
from torch import Tensor, nn

from siamese.config import RunError
from siamese.models.embedding import EmbeddingNet


def vgg11(
    mean: Sequence[float],
    std: Sequence[float],
    embedding_dim: int = 128,
    pretrained: bool = True,
    weights: str | None = None,
) -> EmbeddingNet:
    """VGG11's convolutions (Simonyan and Zisserman 2014, configuration A), 512 features.

    Args:
        pretrained: start from torchvision's ImageNet weights, downloaded once.
        weights: start from this state dict of torchvision's vgg11 instead; nothing is downloaded.

    Raises:
        RunError: when the weights cannot be downloaded, read, or do not fit.
    """
    backbone = torchvision.models.vgg11().features
    if weights is not None:
        load_weights(backbone, weights, prefix="features.", of="torchvision's vgg11")
    elif pretrained:
        try:
            state = torchvision.models.VGG11_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
        except (URLError, OSError, RuntimeError) as error:  # RuntimeError: a hash that does not match
            raise RunError(
                f"model.pretrained=true: the ImageNet weights of vgg11 could not be downloaded ({error}); "
                "use model.pretrained=false, or model.weights=FILE with a local state dict"
            ) from None
        backbone.load_state_dict(
            {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        )
    return EmbeddingNet(backbone, 512, embedding_dim, mean, std)


def conv_small(
    mean: Sequence[float],
    std: Sequence[float],
    embedding_dim: int = 128,
    width: int = 32,
    weights: str | None = None,
) -> EmbeddingNet:
    """Four 3x3 convolutions with BatchNorm and ReLU, the last three each halving the image.

    Args:
        width: channels of the first; the others have 2, 4 and 4 times as many.
        weights: start from this state dict of the same backbone.

    Raises:
        RunError: when ``weights`` cannot be read or does not fit.
    """
    backbone = nn.Sequential(
        _conv(3, width),
        _conv(width, 2 * width, pool=True),
        _conv(2 * width, 4 * width, pool=True),
        _conv(4 * width, 4 * width, pool=True),
        nn.BatchNorm2d(4 * width),  # centred: features after a ReLU alone would start as one direction
    )
    if weights is not None:
        load_weights(backbone, weights, prefix="", of=f"conv_small with model.width={width}")
    return EmbeddingNet(backbone, 4 * width, embedding_dim, mean, std)


def resnet9(
    mean: Sequence[float],
    std: Sequence[float],
    embedding_dim: int = 128,
    width: int = 32,
    weights: str | None = None,
) -> EmbeddingNet:
    """Eight 3x3 convolutions with BatchNorm, four of them in two residual blocks (He et al. 2015,
    equation 1), made for 32x32 images and random weights.

    Args:
        width: channels of the first; it ends with 8 times as many.
        weights: start from this state dict of the same backbone.

    Raises:
        RunError: when ``weights`` cannot be read or does not fit.
    """
    backbone = nn.Sequential(
        _conv(3, width),
        _conv(width, 2 * width, pool=True),
        Residual(_conv(2 * width, 2 * width), _conv(2 * width, 2 * width)),
        _conv(2 * width, 4 * width, pool=True),
        _conv(4 * width, 8 * width, pool=True),
        Residual(_conv(8 * width, 8 * width), _conv(8 * width, 8 * width)),
        nn.BatchNorm2d(8 * width),  # centred: features after a ReLU alone would start as one direction
    )
    if weights is not None:
        load_weights(backbone, weights, prefix="", of=f"resnet9 with model.width={width}")
    return EmbeddingNet(backbone, 8 * width, embedding_dim, mean, std)


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


def load_weights(backbone: nn.Module, path: str, prefix: str, of: str) -> None:
    """Load the entries of a state-dict file that start with ``prefix`` into ``backbone``.

    Raises:
        RunError: when the file cannot be read as plain tensors, or is of another architecture.
    """
    try:
        state = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"model.weights={path}: no such file") from None
    except Exception as error:  # whatever a file that is no state dict makes the reader raise
        reason = str(error).splitlines()[0]
        raise RunError(f"model.weights={path}: could not be read as a state dict ({reason})") from None
    own = backbone.state_dict()
    given = (
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} if isinstance(state, dict) else {}
    )
    missing = sorted(own.keys() - given.keys())
    wrong = [
        k for k in own.keys() & given.keys() if not isinstance(given[k], torch.Tensor) or given[k].shape != own[k].shape
    ]
    extra = sorted(given.keys() - own.keys())
    if missing or wrong or extra:
        kind, names = next(
            (k, n) for k, n in (("lacks", missing), ("has other shapes for", sorted(wrong)), ("also has", extra)) if n
        )
        shown = ", ".join(prefix + n for n in names[:3]) + (", …" if len(names) > 3 else "")
        raise RunError(f"model.weights={path}: not the weights of {of}; it {kind} {shown}")
    backbone.load_state_dict(given)
