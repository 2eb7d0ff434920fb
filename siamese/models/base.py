"""What every ``model=`` shares: a backbone made into an embedding network, with weights and frozen parts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import torch
from torch import Tensor, nn

from siamese.errors import ConfigError, RunError
from siamese.models.embedding import EmbeddingNet


class Backbone(NamedTuple):
    """Layers [N, 3, H, W] → [N, F, h, w] or [N, F].

    Attributes:
        features: F.
        name: what messages call it.
        pretrained: fetches a state dict, where there is one to be had.
    """

    layers: nn.Module
    features: int
    name: str
    pretrained: Callable[[], dict[str, Tensor]] | None = None


def embedding_net(make: Callable[..., Backbone]) -> Callable[..., EmbeddingNet]:
    """The function that makes a whole :class:`EmbeddingNet` on the backbone that ``make`` makes.

    It takes the arguments of ``make``, which are keywords, and besides:

    Args:
        mean, std: of each channel, in [0, 1].
        embedding_dim: of the linear projection; null for none, when features are the embedding.
        image_size: height and width of the images (a list where they differ), for a backbone that has to know.
        normalize: whether embeddings have length 1.
        pretrained: start from weights that are downloaded once.
        weights: start from this file instead: a state dict of the same architecture (what it has for
            a classifier is left out), or a checkpoint of a run with the same model. Nothing is downloaded.
        reset_parameters: start from random weights as torch's layers draw them, and load none.
        freeze: see :meth:`EmbeddingNet.freeze`; a number is the name of a layer of a plain sequence.

    Raises:
        ConfigError: for weights that there are none of, or that would be reset; see also ``freeze``.
        RunError: when weights cannot be downloaded, read, or do not fit.
    """
    own = inspect.signature(make).parameters

    def build(
        mean: Sequence[float],
        std: Sequence[float],
        embedding_dim: int | None = 128,
        *,
        image_size: int | list[int] = 32,
        normalize: bool = True,
        pretrained: bool = False,
        weights: str | None = None,
        reset_parameters: bool = False,
        freeze: str | int = "none",
        **arguments: Any,
    ) -> EmbeddingNet:
        sized = {"image_size": image_size} if "image_size" in own else {}
        backbone = make(**sized, **arguments)
        if reset_parameters and weights is not None:
            raise ConfigError(f"model.weights={weights}: expected null with model.reset_parameters=true")
        if reset_parameters:
            for layer in backbone.layers.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()
        elif weights is not None:
            load_weights(backbone, weights)
        elif pretrained:
            if backbone.pretrained is None:
                raise ConfigError(
                    f"model.pretrained=true: there are no pretrained weights of {backbone.name}; "
                    "expected model.pretrained=false, or model.weights=FILE"
                )
            backbone.layers.load_state_dict(of_backbone(backbone.pretrained())[0])
        net = EmbeddingNet(backbone.layers, backbone.features, embedding_dim, mean, std, normalize)
        net.freeze(str(freeze))
        return net

    shared = list(inspect.signature(build).parameters.values())[:-1]
    mine = [p.replace(kind=p.KEYWORD_ONLY) for name, p in own.items() if name != "image_size"]
    build.__signature__ = inspect.Signature([*shared, *mine])  # type: ignore[attr-defined]
    build.__annotations__ = get_type_hints(build) | get_type_hints(make)
    build.__name__, build.__qualname__, build.__doc__ = make.__name__, make.__qualname__, make.__doc__
    return build


def load_weights(backbone: Backbone, path: str) -> None:
    """Load a file of weights into ``backbone``.

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
    own = backbone.layers.state_dict()
    given, prefix = of_backbone(state)
    missing = sorted(
        k for k in own.keys() - given.keys() if not k.endswith("num_batches_tracked")
    )  # new in torch 0.4.1
    wrong = [
        k for k in own.keys() & given.keys() if not isinstance(given[k], torch.Tensor) or given[k].shape != own[k].shape
    ]
    extra = sorted(given.keys() - own.keys())
    if missing or wrong or extra:
        kind, names = next(
            (k, n) for k, n in (("lacks", missing), ("has other shapes for", sorted(wrong)), ("also has", extra)) if n
        )
        shown = ", ".join(prefix + n for n in names[:3]) + (", …" if len(names) > 3 else "")
        raise RunError(f"model.weights={path}: not the weights of {backbone.name}; it {kind} {shown}")
    backbone.layers.load_state_dict(given)


def of_backbone(state: Any) -> tuple[dict[str, Any], str]:
    """The entries of a state dict that are a backbone's, and the prefix that their names had: of a
    checkpoint of ours, of torchvision's models that keep ``features`` apart, or of a backbone alone.
    (torchvision's DenseNet files are older than its names: norm.1 there is norm1 here.)"""
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict):
        return {}, ""
    prefix = next((p for p in ("net.backbone.", "features.") if any(str(k).startswith(p) for k in state)), "")
    given = {k.removeprefix(prefix): v for k, v in state.items() if str(k).startswith(prefix)}
    given = {k: v for k, v in given.items() if not k.startswith("fc.")}  # a ResNet's classifier
    return {re.sub(r"(denselayer\d+\.\w+)\.([12]\.)", r"\1\2", k): v for k, v in given.items()}, prefix
