"""What every ``model=`` shares: a backbone made into an embedding network, with weights and frozen parts."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_type_hints

from torch import Tensor, nn

from siamese.errors import ConfigError
from siamese.models.embedding import EmbeddingNet
from siamese.models.weights import Part, load_weights, of_backbone

log = logging.getLogger(__name__)


class Backbone(NamedTuple):
    """Layers [N, 3, H, W] → [N, F, h, w] or [N, F].

    Attributes:
        features: F.
        name: what messages call it.
        pretrained: fetches a state dict, where there is one to be had.
        within: the part of the published network that the layers are, such as ``features``; empty for all of it.
        adapt: makes weights of the same network for other images into those of this one.
        pixels: the mean and the standard deviation of each channel that its weights want, where it is known.
    """

    layers: nn.Module
    features: int
    name: str
    pretrained: Callable[[], dict[str, Tensor]] | None = None
    within: str = ""
    adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    pixels: tuple[list[float], list[float]] | None = None


def embedding_net(make: Callable[..., Backbone]) -> Callable[..., EmbeddingNet]:
    """The function that makes a whole :class:`EmbeddingNet` on the backbone that ``make`` makes.

    It takes the arguments of ``make``, which are keywords, and besides:

    Args:
        mean, std: of each channel, in [0, 1]; those of the backbone's ``pixels`` take their place.
        embedding_dim: of the linear projection; null for none, when features are the embedding.
        image_size: height and width of the images (a list where they differ), for a backbone that has to know.
        normalize: whether embeddings have length 1.
        pretrained: start from weights that are downloaded once.
        weights: start from this instead: the directory of a run with the same model (its best checkpoint), a
            checkpoint, or a file of a state dict. Nothing is downloaded; see :func:`load_weights`.
        weights_part: ``all`` of it that fits, or the ``backbone`` alone: the projection starts at random.
        reset_parameters: start from random weights as torch's layers draw them, and load none.
        freeze: see :meth:`EmbeddingNet.freeze`; a number is the name of a layer of a plain sequence.
        freeze_batchnorm: see :meth:`EmbeddingNet.freeze_batchnorm`.

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
        weights_part: Part = "all",
        reset_parameters: bool = False,
        freeze: str | int = "none",
        freeze_batchnorm: bool = False,
        **arguments: Any,
    ) -> EmbeddingNet:
        sized = {"image_size": image_size} if "image_size" in own else {}
        backbone = make(**sized, **arguments)
        if reset_parameters and weights is not None:
            raise ConfigError(f"model.weights={weights}: expected null with model.reset_parameters=true")
        if weights is None and weights_part != "all":
            raise ConfigError(f"model.weights_part={weights_part}: expected all, or model.weights=RUN; found null")
        if reset_parameters:
            for layer in backbone.layers.modules():
                if callable(reset := getattr(layer, "reset_parameters", None)):
                    reset()
        elif pretrained and weights is None:
            if backbone.pretrained is None:
                raise ConfigError(
                    f"model.pretrained=true: there are no pretrained weights of {backbone.name}; "
                    "expected model.pretrained=false, or model.weights=FILE"
                )
            names = backbone.layers.state_dict().keys()
            state = of_backbone(backbone.pretrained(), backbone.within, names)[0]
            backbone.layers.load_state_dict(state if backbone.adapt is None else backbone.adapt(state))
            if backbone.pixels is not None:
                log.info("pixels are normalised as %s wants them: mean %s, std %s", backbone.name, *backbone.pixels)
        mean, std = backbone.pixels or (mean, std)
        net = EmbeddingNet(backbone.layers, backbone.features, embedding_dim, mean, std, normalize)
        if weights is not None:
            net.weights = load_weights(net, weights, weights_part, backbone.name, backbone.within, backbone.adapt)
        if freeze_batchnorm:
            net.freeze_batchnorm()
        net.freeze(str(freeze), backbone.within)
        return net

    shared = list(inspect.signature(build).parameters.values())[:-1]
    mine = [p.replace(kind=p.KEYWORD_ONLY) for name, p in own.items() if name != "image_size"]
    build.__signature__ = inspect.Signature([*shared, *mine])  # type: ignore[attr-defined]
    build.__annotations__ = get_type_hints(build) | get_type_hints(make)
    build.__name__, build.__qualname__, build.__doc__ = make.__name__, make.__qualname__, make.__doc__
    return build
