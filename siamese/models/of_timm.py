"""timm's networks without their classifiers, and their pretrained weights. timm is imported when one is made."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from siamese.config.values import height_width
from siamese.errors import ConfigError, RunError, nearest
from siamese.models.base import Backbone, embedding_net


@embedding_net
def from_timm(image_size: int | list[int], name: str) -> Backbone:
    """A network of timm's (PyTorch Image Models), without its classifier: what it makes of images is pooled as the
    network does it. Pixels are normalised as its pretrained weights want them. One that takes images of one size alone,
    as transformers do, is made for ``image_size``, and timm interpolates the positions of its weights.

    Args:
        name: as timm has it, such as ``vit_small_patch16_224``, with the tag of certain weights or without.

    Raises:
        ConfigError: where timm is not installed, has no such network, or cannot make it for images of this size.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model=timm: {error.name} is not installed; pip install -e '.[timm]' installs what it needs"
        ) from None
    known = timm.list_models()
    tagged = "." in name
    if name not in (timm.list_pretrained() if tagged else known):
        choices = [*known, *timm.list_pretrained()] if tagged else known
        raise ConfigError(f"model.name={name}: timm has no such network, of {len(known):,}{nearest(name, choices)}")
    published: Any = timm.get_pretrained_cfg(name)
    size, fixed = height_width(image_size), bool(published.fixed_input_size)
    # Not all of those that take one size can be made for another: then there is no such argument.
    sized: dict[str, Any] = {"img_size": size} if fixed and size != tuple(published.input_size[1:]) else {}

    def made(*, pretrained: bool) -> nn.Module:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, **sized)

    try:
        net: Any = made(pretrained=False)
    except (AssertionError, ValueError, RuntimeError, TypeError, ZeroDivisionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"data.image_size={image_size}: timm cannot make {name} for images of this size ({reason})"
        ) from None

    patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if fixed and patch is not None and any(side % part for side, part in zip(size, patch, strict=True)):
        near = max(patch) * max(1, round(max(size) / max(patch)))
        raise ConfigError(
            f"data.image_size={image_size}: {name} cuts images into patches of {'x'.join(map(str, patch))} pixels; "
            f"expected a multiple of that, such as data.image_size={near}"
        )

    def download() -> dict[str, Tensor]:
        try:
            return made(pretrained=True).state_dict()
        except Exception as error:  # whatever a hub, its client or a torn file raises
            reason = " ".join(str(error).split())[:200]
            raise RunError(
                f"model.pretrained=true: the weights of {name} could not be fetched ({reason}); "
                "use model.pretrained=false, or model.weights=FILE with a local state dict"
            ) from None

    pixels = [float(v) for v in net.pretrained_cfg["mean"]], [float(v) for v in net.pretrained_cfg["std"]]
    there = timm.is_model_pretrained(name)
    return Backbone(net, net.head_hidden_size, f"timm's {name}", download if there else None, pixels=pixels)
