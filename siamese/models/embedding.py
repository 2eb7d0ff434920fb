"""From uint8 images to embeddings: normalise, backbone, mean over space, linear, L2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from siamese.config.values import height_width
from siamese.errors import ConfigError, nearest


class EmbeddingNet(nn.Module):
    """``backbone`` [N, 3, H, W] → [N, F, h, w] or [N, F], averaged over space, projected and normalised.

    The normalisation of the pixels belongs to the network (buffers ``mean`` and ``std``), so that a
    checkpoint embeds any uint8 image without knowing what it was trained on.

    Args:
        features: F.
        embedding_dim: of the linear projection; None for no projection: the embedding is the features.
        normalize: whether embeddings have length 1.

    Attributes:
        embedding_dim: D, the length of an embedding.
        weights: the file that it started from, and its fingerprint; None where it started from none.
    """

    mean: Tensor
    std: Tensor
    weights: dict[str, str] | None

    def __init__(
        self,
        backbone: nn.Module,
        features: int,
        embedding_dim: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.projection = nn.Identity() if embedding_dim is None else nn.Linear(features, embedding_dim)
        self.embedding_dim = features if embedding_dim is None else embedding_dim
        self.normalize = normalize
        self.weights = None
        self._frozen: list[nn.Module] = []
        self._kept: list[nn.Parameter] = []
        self._normed: list[nn.Module] = []
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1) * 255)

    def forward(self, images: Tensor) -> Tensor:
        """Embed uint8 [N, 3, H, W]; returns [N, D], float32 or wider, rows of length 1 if ``normalize``."""
        x = self.backbone(self.normalised(images))
        z = self.projection(x.mean((2, 3)) if x.dim() == 4 else x)
        with torch.autocast(z.device.type, enabled=False):
            wide = z if z.dtype == torch.float64 else z.float()
            return nn.functional.normalize(wide, dim=1) if self.normalize else wide

    def normalised(self, images: Tensor) -> Tensor:
        """What the backbone gets of uint8 ``images`` [N, 3, H, W]: float, of mean 0 and variance 1 a channel."""
        return (images.to(self.mean.dtype) - self.mean) / self.std

    def freeze(self, upto: str, within: str = "") -> None:
        """Keep what a part of the backbone computes: its parameters get no gradient, and its BatchNorm
        and dropout stay in evaluation mode whatever :meth:`train` says.

        Args:
            upto: ``none``, ``backbone``, or the name of a layer: all layers up to it, and it.
            within: the part of the published network that the backbone is, such as ``features``: that name is
                the backbone's too, and ``features.3`` that of its layer 3.

        Raises:
            ConfigError: for a name that no layer has, and when nothing is left to train.
        """
        modules = list(self.backbone.named_modules())
        name = "backbone" if within and upto == within else upto.removeprefix(f"{within}.") if within else upto
        count = {"none": 0, "backbone": len(modules)}.get(name)
        if count is None:
            inside = [i for i, (module, _) in enumerate(modules) if f"{module}.".startswith(f"{name}.")]
            if not inside:
                names = [module for module, _ in modules if module]
                tops = [child for child, _ in self.backbone.named_children()]
                known = ["none", "backbone", *names, *([within, *(f"{within}.{n}" for n in names)] if within else [])]
                raise ConfigError(
                    f"model.freeze={upto}: expected none, backbone, or a layer of the backbone, such as "
                    f"{', '.join(tops[:12])}{nearest(upto, known)}"
                )
            count = inside[-1] + 1
        self.thaw()
        kept = [module for _, module in modules[:count]]
        whole = set(kept)
        self._frozen = [module for module in kept if whole.issuperset(module.modules())]
        # Parameters of each module itself: a transformer's class token, say, is of no layer below it.
        self._kept = [p for module in kept for p in module.parameters(recurse=False) if p.requires_grad]
        for parameter in self._kept:
            parameter.requires_grad_(False)
        if not any(p.requires_grad for p in self.parameters()):
            raise ConfigError(f"model.freeze={upto}: with model.embedding_dim=null nothing is left to train")
        self.train(self.training)

    def freeze_batchnorm(self) -> None:
        """Let every BatchNorm of the backbone compute with the statistics and scales that it has, for good: batches of
        a few images of each class say little of the images on which pretrained ones were found.

        Raises:
            ConfigError: where the backbone has none.
        """
        self._normed = [module for module in self.backbone.modules() if isinstance(module, _BatchNorm)]
        if not self._normed:
            raise ConfigError("model.freeze_batchnorm=true: the backbone has no BatchNorm; expected false")
        for layer in self._normed:
            layer.requires_grad_(False)
        if not any(p.requires_grad for p in self.parameters()):
            raise ConfigError("model.freeze_batchnorm=true: nothing is left to train")
        self.train(self.training)

    def thaw(self) -> int:
        """Let what :meth:`freeze` has kept be trained from here on; how many parameters (tensors) that is."""
        count = len(self._kept)
        for parameter in self._kept:
            parameter.requires_grad_(True)
        self._frozen, self._kept = [], []
        self.train(self.training)
        return count

    def train(self, mode: bool = True) -> EmbeddingNet:
        super().train(mode)
        for layer in (*self._frozen, *self._normed):
            layer.training = False
        return self


def features_of(net: object, path: str, image_size: int | list[int]) -> int:
    """How many features D a module of one's own, which ``path`` names, makes of normalised images.

    Raises:
        ConfigError: when it is no module, or does not return [N, D] or [N, D, h, w].
    """
    if not isinstance(net, nn.Module):
        raise ConfigError(f"model._target_={path}: expected what makes a torch.nn.Module, found {type(net).__name__}")
    wanted = "expected it to make [N, D] or [N, D, h, w] of float images [N, 3, H, W]"
    training = net.training
    try:
        with torch.no_grad():
            out = net.eval()(torch.zeros(2, 3, *height_width(image_size)))
    except (RuntimeError, TypeError) as error:
        raise ConfigError(f"model._target_={path}: {wanted}; it raised {' '.join(str(error).split())[:200]}") from error
    finally:
        net.train(training)
    if not isinstance(out, Tensor) or out.dim() not in (2, 4) or len(out) != 2:
        found = f"shape {list(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(f"model._target_={path}: {wanted}; found {found} for two images of {image_size} pixels")
    return out.shape[1]
