"""Backbones, each as a complete embedding network: uint8 images in, embeddings out."""

from siamese.models.embedding import EmbeddingNet
from siamese.models.pretrained import from_torchvision
from siamese.models.small import conv_small, mlp, resnet9, sequential

__all__ = ["EmbeddingNet", "conv_small", "from_torchvision", "mlp", "resnet9", "sequential"]
