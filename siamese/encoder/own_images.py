"""A run's own images, as it was tested on them or shows some of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from siamese.config.schema import Config
from siamese.config.targets import check_handed
from siamese.config.trust import refuse_strangers
from siamese.data import LabelledImages, load
from siamese.decoding.names import few
from siamese.encoder.encoder import Encoder
from siamese.encoder.exported import Embed
from siamese.errors import RunError
from siamese.evaluation.names import Undefined
from siamese.evaluation.one import value_of
from siamese.evaluator.measured import how, roles_of
from siamese.runs.arrays import read_arrays


@dataclass(frozen=True)
class OwnImages:
    """The test part of a run: the images of ``source`` at ``index``, int64 [N]."""

    source: LabelledImages
    index: np.ndarray

    def some(self, most: int) -> Tensor:
        """Up to ``most`` of them, evenly spaced, uint8 [n, 3, H, W]."""
        chosen = np.unique(np.linspace(0, len(self.index) - 1, min(most, len(self.index))).astype(int))
        return self.source.images[torch.from_numpy(self.index[chosen])]

    def recall_at_1(self, encoder: Encoder, embed: Embed) -> str:
        """What ``embed`` is worth on all of them, as the run measures it, in digits or words."""
        size = encoder.network.batch_size
        embeddings = np.concatenate(
            [embed(self.source.images[some].numpy()) for some in torch.from_numpy(self.index).split(size)]
        )
        settings, labels = encoder.config.evaluation, self.source.labels.numpy()[self.index]
        roles, none = roles_of(self.source, self.index, settings), np.empty((0, 3), dtype=np.int64)
        classes = len(self.source.class_names)
        found = value_of("recall_at_1", embeddings, labels, none, classes, how(settings, None), roles)
        return f"undefined ({found.reason})" if isinstance(found, Undefined) else f"{found:.4f}"


def own_test_images(run: Path, config: Config, trust: Sequence[str], root: Path | None, remedy: str) -> OwnImages:
    """The images that ``run`` was tested on, loaded as it loaded them, or from the folder ``root``. ``remedy`` is
    what trusts a module, up to its name.

    Raises:
        ConfigError: for a source of one's own that is not trusted.
        RunError: when the images are no longer there, or the run holds no embeddings of them.
    """
    refuse_strangers(config, trust, [], remedy, ["data.source"])
    data = config.data if root is None else dataclasses.replace(config.data, root=str(root))
    ids = read_arrays(run / "arrays" / "test.npz", "ids")["ids"]
    check_handed(data)
    source = load(data, config.seed)
    place = {str(name): i for i, name in enumerate(source.ids)}
    if missing := [str(name) for name in ids if str(name) not in place]:
        where = data.root or data.source_name
        raise RunError(f"{where}: no longer has {len(missing):,} of the {len(ids):,} test images ({few(missing)})")
    return OwnImages(source, np.array([place[str(name)] for name in ids]))


def samples(run: Path) -> Tensor:
    """The images that ``run`` shows of what it trained on, uint8 [n, 3, H, W].

    Raises:
        RunError: when it holds none.
    """
    return torch.from_numpy(read_arrays(run / "arrays" / "samples.npz", "images")["images"])
