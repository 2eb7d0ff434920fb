"""Backbones, each as a complete embedding network: uint8 images in, embeddings out."""

from siamese.models.embedding import EmbeddingNet
from siamese.models.of_timm import from_timm
from siamese.models.pretrained import from_torchvision
from siamese.models.small import conv_small, mlp, resnet9, sequential
from siamese.models.whitened import Whitening, conv_whitened

__all__ = [
    "EmbeddingNet",
    "Whitening",
    "conv_small",
    "conv_whitened",
    "from_timm",
    "from_torchvision",
    "mlp",
    "resnet9",
    "sequential",
]
