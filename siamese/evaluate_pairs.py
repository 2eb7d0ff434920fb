"""The evaluation of a checkpoint on pairs of training and test images, for a run that trains on pairs."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch

from siamese.artifacts import RunDirectory
from siamese.data import SiameseData
from siamese.evaluate import Entries, entry
from siamese.evaluation.metrics import direction
from siamese.module import SiameseModule

SHOWN = 5  # pairs of one class, and as many of two


def evaluate_pairs(
    run: RunDirectory, module: SiameseModule, data: SiameseData, trainer: pl.Trainer, epoch: int
) -> tuple[Entries, list[str]]:
    """Measure the training pairs, and write some pairs of training and test images with their distances.
    ``module`` has just embedded the test images.

    Returns:
        The entries of summary.json, and what there is to say besides.
    """
    test = module.embeddings
    chunks = trainer.predict(module, datamodule=data)
    train = torch.cat([torch.as_tensor(chunk) for chunk in chunks or []]).cpu()
    labels = data.source.labels.numpy()
    for part, embeddings in (("train", train), ("test", test)):
        pairs = data.pairs(part)
        firsts = 2 * np.linspace(0, len(pairs) // 2 - 1, SHOWN).astype(int)
        shown = pairs[np.stack([firsts, firsts + 1], axis=1).ravel()]
        first, second = embeddings[torch.from_numpy(np.searchsorted(data.parts[part], shown))].unbind(1)
        run.arrays(
            f"pairs_{part}",
            images=data.source.images.numpy()[shown],
            labels=labels[shown],
            distances=torch.linalg.vector_norm(first - second, dim=1).numpy(),
            threshold=np.array(module.pair_distance),
            class_names=np.array(data.source.class_names),
        )
    found = module.measure_pairs(train, "train")
    entries = {f"train/{name}": entry(value, "train", epoch, direction(name)) for name, value in found.items()}
    return entries, [f"training pairs: {', '.join(f'{name} {value:.4f}' for name, value in found.items())}"]
