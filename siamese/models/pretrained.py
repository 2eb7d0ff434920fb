"""torchvision's networks without their classifiers, and their ImageNet weights."""

from __future__ import annotations

from typing import Literal
from urllib.error import URLError

import torchvision
from torch import Tensor, nn

from siamese.errors import RunError
from siamese.models.base import Backbone, embedding_net

# What each ends with, F.
FEATURES = {
    "alexnet": 256,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "mobilenet_v3_small": 576,
    "resnet18": 512,
    "resnet50": 2048,
    "vgg11": 512,
    "vgg11_bn": 512,
}
Architecture = Literal[
    "alexnet", "densenet121", "efficientnet_b0", "mobilenet_v3_small", "resnet18", "resnet50", "vgg11", "vgg11_bn"
]


@embedding_net
def from_torchvision(architecture: Architecture, stem: Literal["native", "small"] = "native") -> Backbone:
    """The convolutions of a network of torchvision's, ending at its last feature map.

    Args:
        stem: ``native``, as it was made for 224x224 images; or ``small``: the first convolution has
            stride 1, and a pooling that belongs to the stem (ResNet, DenseNet) is left out, so that
            32x32 images keep a feature map. The weights have the same shapes either way.
    """
    whole = torchvision.models.get_model(architecture, weights=None)
    layers = whole.features if hasattr(whole, "features") else _without_head(whole)
    if architecture.startswith("densenet"):
        layers.add_module("relu5", nn.ReLU(inplace=True))  # torchvision has it in forward
    if stem == "small":
        next(m for m in layers.modules() if isinstance(m, nn.Conv2d)).stride = (1, 1)
        for name in {"maxpool", "pool0"} & {name for name, _ in layers.named_children()}:
            setattr(layers, name, nn.Identity())
    within = "features" if hasattr(whole, "features") else ""
    name = f"torchvision's {architecture}"
    return Backbone(layers, FEATURES[architecture], name, lambda: _download(architecture), within)


def _without_head(net: nn.Module) -> nn.Sequential:
    layers = nn.Sequential()
    for name, layer in net.named_children():
        if name not in ("avgpool", "fc"):
            layers.add_module(name, layer)
    return layers


def _download(architecture: str) -> dict[str, Tensor]:
    try:
        return torchvision.models.get_model_weights(architecture).DEFAULT.get_state_dict(check_hash=True)
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: a hash that does not match
        raise RunError(
            f"model.pretrained=true: the ImageNet weights of {architecture} could not be downloaded ({error}); "
            "use model.pretrained=false, or model.weights=FILE with a local state dict"
        ) from None
