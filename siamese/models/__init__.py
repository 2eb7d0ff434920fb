"""Backbones, each as a complete embedding network: uint8 images in, unit vectors out."""

from siamese.models.backbones import conv_small, resnet9, vgg11
from siamese.models.embedding import EmbeddingNet

__all__ = ["EmbeddingNet", "conv_small", "resnet9", "vgg11"]
