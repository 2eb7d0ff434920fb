"""torchvision's networks without their classifiers, and their ImageNet weights."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal, NamedTuple
from urllib.error import URLError

import torchvision
from torch import Tensor, nn
from torchvision.models import vision_transformer

from siamese.config.values import height_width
from siamese.errors import ConfigError, RunError, nearest
from siamese.models.base import Backbone, embedding_net

log = logging.getLogger(__name__)

# Families by how their names begin: those that end with a feature map in a part of their own, the ResNets, and those
# that cut the image into patches. Of all others the whole network is the backbone, but for its last linear layer.
FEATURES = ("alexnet", "densenet", "efficientnet", "mobilenet", "squeezenet", "vgg")
RESNETS = ("resnet", "resnext", "wide_resnet")
PATCHES = ("convnext", "maxvit", "swin", "vit")
STEM_POOLING = ("maxpool", "pool0", "maxpool1")


@embedding_net
def from_torchvision(
    image_size: int | list[int], architecture: str, stem: Literal["native", "small"] = "native"
) -> Backbone:
    """A network that torchvision offers for classification, without its classifier.

    Convolutional ones end at their last feature map, others at what their last linear layer gets. A ViT and a MaxViT
    are made for ``image_size``; the embedding of positions of a ViT's weights is interpolated.

    Args:
        stem: ``native``, as it was made for 224x224 images; or ``small``: the first convolution has
            stride 1, and a pooling that belongs to the stem (ResNet, DenseNet) is left out, so that
            32x32 images keep a feature map. The weights have the same shapes either way.

    Raises:
        ConfigError: for a network that torchvision does not have, one that has no such stem, and one that cannot be
            made for images of this size.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise ConfigError(
            f"model.architecture={architecture}: torchvision has no such network for classification, of "
            f"{len(known)}{nearest(architecture, known)}"
        )
    cut = _cut(architecture, _made(architecture, image_size))
    if stem == "small":
        if architecture.startswith(PATCHES):
            raise ConfigError(f"model.stem=small: {architecture} cuts images into patches; expected model.stem=native")
        next(m for m in cut.layers.modules() if isinstance(m, nn.Conv2d)).stride = (1, 1)
        for name in {name for name, _ in cut.layers.named_children()}.intersection(STEM_POOLING):
            setattr(cut.layers, name, nn.Identity())
    adapt = _interpolated(cut.layers) if architecture.startswith("vit") else None
    name = f"torchvision's {architecture}"
    return Backbone(cut.layers, cut.features, name, lambda: _download(architecture), cut.within, adapt)


class Cut(NamedTuple):
    layers: nn.Module
    features: int
    within: str = ""


def _made(architecture: str, image_size: int | list[int]) -> nn.Module:
    height, width = height_width(image_size)
    arguments: dict[str, Any] = {}
    if architecture.startswith("vit"):
        if height != width:
            raise ConfigError(f"data.image_size={image_size}: {architecture} takes square images")
        arguments["image_size"] = height
    elif architecture == "maxvit_t":
        arguments["input_size"] = (height, width)
    elif architecture in ("googlenet", "inception_v3"):
        # Without the classifiers on the way, and from pixels of mean 0 and variance 1 to those that it was trained on.
        arguments |= {"aux_logits": False, "init_weights": True, "transform_input": True}
    try:
        return torchvision.models.get_model(architecture, weights=None, **arguments)
    except (AssertionError, ValueError) as error:  # torchvision's words for sizes
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"data.image_size={image_size}: {architecture} cannot be made for images of this size ({reason})"
        ) from None


def _cut(architecture: str, whole: Any) -> Cut:
    """The layers of a network before its classifier."""
    if architecture.startswith(RESNETS):
        layers = nn.Sequential()
        for name, layer in whole.named_children():
            if name not in ("avgpool", "fc"):
                layers.add_module(name, layer)
        return Cut(layers, whole.fc.in_features)
    if architecture.startswith((*FEATURES, "mnasnet")):
        within = "layers" if architecture.startswith("mnasnet") else "features"
        layers = getattr(whole, within)
        if architecture.startswith("densenet"):
            layers.add_module("relu5", nn.ReLU(inplace=True))  # torchvision has it in forward
        first = next(m for m in whole.classifier.modules() if isinstance(m, (nn.Linear, nn.Conv2d)))
        pooled = getattr(getattr(whole, "avgpool", None), "output_size", 1)  # VGG and AlexNet flatten several places
        places = math.prod(pooled) if isinstance(pooled, tuple) else pooled**2
        count = first.in_features if isinstance(first, nn.Linear) else first.in_channels
        return Cut(layers, count // places, within)
    path, last = [(name, m) for name, m in whole.named_modules() if isinstance(m, nn.Linear)][-1]
    whole.set_submodule(path, nn.Identity())
    return Cut(whole, last.in_features)


def _interpolated(vit: Any) -> Any:
    """What makes weights of a ViT for other images into those of ``vit``."""

    def adapt(state: dict[str, Any]) -> dict[str, Any]:
        positions, own = state.get("encoder.pos_embedding"), vit.encoder.pos_embedding
        if not isinstance(positions, Tensor) or positions.dim() != 3 or positions.shape == own.shape:
            return state
        if positions.shape[2] != own.shape[2] or math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
            return state  # of another network, as will be said
        log.info("the embedding of %d positions of the weights is interpolated to %d", positions.shape[1], own.shape[1])
        return dict(vision_transformer.interpolate_embeddings(vit.image_size, vit.patch_size, state))

    return adapt


def _download(architecture: str) -> dict[str, Tensor]:
    try:
        return torchvision.models.get_model_weights(architecture).DEFAULT.get_state_dict(check_hash=True)
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: a hash that does not match
        raise RunError(
            f"model.pretrained=true: the ImageNet weights of {architecture} could not be downloaded ({error}); "
            "use model.pretrained=false, or model.weights=FILE with a local state dict"
        ) from None
