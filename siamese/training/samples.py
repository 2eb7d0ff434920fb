"""The images and triplets that a run shows before and after training."""

from __future__ import annotations

import numpy as np
import torch

from siamese.data import SiameseData
from siamese.data.images import pixels
from siamese.figures.excerpt import largest
from siamese.runs.arrays import read_arrays
from siamese.runs.directory import RunDirectory
from siamese.training.module import SiameseModule


def show_samples(run: RunDirectory, data: SiameseData) -> None:
    """Show what is trained on, before it is: five images a class, of the largest of many classes, where there are
    classes, and five triplets."""
    source, train = data.source, data.parts["train"]
    if not source.class_names:
        return
    labels = source.labels.numpy()
    counts = np.bincount(labels[train][labels[train] >= 0], minlength=len(source.class_names))
    shown = np.concatenate([train[labels[train] == label][:5] for label in largest(counts).labels])
    names = np.array(source.class_names)
    arrays = {"images": pixels(source.images, shown), "labels": labels[shown], "class_names": names}
    arrays["class_counts"] = counts
    if data.kind.has_roles:
        triplets = data.epoch(0).items[:5].numpy()
        arrays |= {
            "triplet_images": pixels(source.images, triplets),
            "triplet_labels": labels[triplets],
            "triplet_distances": np.full((len(triplets), 2), np.nan),
        }
    run.arrays("samples", **arrays)


def measure_samples(run: RunDirectory, module: SiameseModule) -> None:
    """Note how far apart the best checkpoint puts the images of the triplets that are shown."""
    if not (run.path / "arrays" / "samples.npz").exists():
        return
    samples = read_arrays(run.path / "arrays" / "samples.npz")
    if "triplet_images" not in samples:
        return
    images = torch.from_numpy(samples["triplet_images"]).to(module.device)
    with torch.no_grad():
        z = torch.nn.functional.normalize(module.eval()(images.flatten(0, 1)).double().cpu(), dim=1)
    anchors, others = z.unflatten(0, images.shape[:2]).split([1, 2], dim=1)
    run.arrays("samples", **samples | {"triplet_distances": 1 - (anchors * others).sum(2).numpy()})
