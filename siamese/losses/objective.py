"""What a run minimises: any loss in the convention, plus KoLeo, with each term by its name."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from siamese.losses.base import traits
from siamese.losses.koleo import KoLeo
from siamese.losses.references import References, beside


class Objective(nn.Module):
    """``loss + koleo_weight · KoLeo``, computed in float32 (float64 stays) with autocast off.

    ``terms`` names what is added up: the loss under its own name, and ``koleo`` unweighted, when
    its weight is not 0. ``tuples_span_batch`` is :attr:`siamese.data.batches.Kind.tuples_span_batch` of the
    batches that it is called with. ``classes``, int64 [C], gives the loss another number for each label: those that are
    trained on come first, so that a loss with weights for each class has them for these alone.
    """

    def __init__(
        self,
        name: str,
        loss: nn.Module,
        koleo: KoLeo,
        koleo_weight: float,
        tuples_span_batch: bool = False,
        classes: Tensor | None = None,
        weighed: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.base, self.koleo, self.koleo_weight = name, loss, koleo, koleo_weight
        self.tuples_span_batch, self.weighed = tuples_span_batch, weighed
        self.register_buffer("classes", classes, persistent=False)

    def knows(self, labels: Tensor) -> bool:
        """Whether the loss can be asked about images of classes ``labels`` [n]: one that has weights for the classes
        that were trained on (``weighed`` of them) knows no others."""
        return self.weighed is None or bool((self.of_classes(labels) < self.weighed).all())

    def of_classes(self, labels: Tensor) -> Tensor:
        """What the loss calls the classes ``labels`` [n]; below 0 is none."""
        if self.classes is None:
            return labels
        return torch.where(labels < 0, labels, self.classes[labels.clamp(min=0)])

    classes: Tensor | None

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The losses that are added up, by name."""
        return {self.name: self.base} | ({"koleo": self.koleo} if self.koleo_weight else {})

    @property
    def terms(self) -> list[str]:
        return [*self.parts]

    @property
    def batch_dependent(self) -> bool:
        """Whether the value depends on which embeddings are seen at once, not only on each tuple."""
        return bool(self.koleo_weight) or self.base_depends

    @property
    def base_depends(self) -> bool:
        """The same of the loss without KoLeo."""
        return traits(self.base).depends(drawn=not self.tuples_span_batch)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None,
        references: References | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and its terms by name; ``references`` join the batch of those that
        can take them."""
        with torch.autocast(embeddings.device.type, enabled=False):
            z = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
            terms = {}
            for name, loss in self.parts.items():
                batch = (z, labels)
                if references is not None and traits(loss).takes_references(drawn=indices_tuple is not None):
                    batch = beside(z, labels, references)
                terms[name] = loss(batch[0], self.of_classes(batch[1]), *batch[2:], indices_tuple)
            return self.total(terms), terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of ``terms``."""
        total = terms[self.name]
        return total + self.koleo_weight * terms["koleo"] if "koleo" in terms else total
