"""The softmax over proxies, one learnt for each class."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import Loss


class ProxySoftmaxLoss(Loss):
    """Mean over embeddings of the cross-entropy of their cosines with one proxy a class, over a temperature (Zhai and
    Wu 2019, Classification is a strong baseline for deep metric learning, section 3), with smoothed labels: the
    target is ``1 − label_smoothing`` for the own class, and ``label_smoothing / C`` more for each of the C classes
    (Szegedy et al. 2015, Rethinking the inception architecture, section 7).

    Args:
        num_classes: C.
        embedding_size: D.

    Attributes:
        proxies: [C, D], of any length.
    """

    batch_dependent = False
    uses_tuples = False

    def __init__(
        self, num_classes: int, embedding_size: int, temperature: float = 0.1, label_smoothing: float = 0.1
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: expected a share from 0 and below 1")
        self.temperature, self.label_smoothing = temperature, label_smoothing
        self.proxies = nn.Parameter(torch.randn(num_classes, embedding_size))

    def forward(self, embeddings: Tensor, labels: Tensor, indices_tuple: tuple[Tensor, ...] | None) -> Tensor:
        """The loss of ``embeddings`` [N, D] with ``labels`` [N], below C; tuples are not used."""
        logits = self.get_logits(embeddings)
        return nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """The cosines of ``embeddings`` [N, D] with the proxies, over the temperature: [N, C]."""
        z, proxies = (nn.functional.normalize(rows, dim=1) for rows in (embeddings, self.proxies))
        return z @ proxies.to(z.dtype).t() / self.temperature
