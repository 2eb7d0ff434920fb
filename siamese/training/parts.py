"""The evaluation of a run's own parts: embedded by its module, under Lightning."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import pytorch_lightning as pl
import torch

from siamese.config.schema import Evaluation
from siamese.data import SiameseData
from siamese.data.images import pixels
from siamese.evaluation.names import Values, defined, direction
from siamese.evaluator.measured import PREFIXES, Entries, entry, measured, roles_of
from siamese.evaluator.part import Part, Told
from siamese.losses.logits import class_logits, class_loss
from siamese.runs.directory import RunDirectory
from siamese.training.module import SiameseModule

BLOCK = 1 << 22  # logits at a time
SHOWN = 5  # pairs of one class, and as many of two


def embedded_parts(
    module: SiameseModule,
    data: SiameseData,
    trainer: pl.Trainer,
    settings: Evaluation,
    parts: Iterable[str] = PREFIXES,
) -> Iterator[tuple[Part, Values]]:
    """Each of ``parts``, embedded when it is asked for, with the losses and all else that ``module`` measures on it."""
    for name in parts:
        test = trainer.validate if name == "validation" else trainer.test
        test(module, datamodule=data, verbose=False)
        part = embedded(module, data, name, settings)
        yield dataclasses.replace(part, told=told(module, settings.most_classes)), dict(module.measured)


def told(module: SiameseModule, most_classes: int) -> Told | None:
    """What the class weights of the loss say of the images that ``module`` has just embedded; None where it has none.
    The logits themselves are kept of up to ``most_classes`` classes."""
    weighing = class_loss(module.objective.base)
    if weighing is None or module.objective.weighed is None:
        return None
    numbers, count = module.objective.classes, module.objective.weighed
    classes = np.arange(count) if numbers is None else numbers.argsort()[:count].cpu().numpy()
    kept, largest = [], []
    with torch.no_grad():
        for some in module.embeddings.split(max(1, BLOCK // count)):
            logits = class_logits(weighing, some).float().cpu().numpy()
            largest.append(logits.argmax(axis=1))
            kept += [logits] if count <= most_classes else []
    return Told(classes, classes[np.concatenate(largest)], np.concatenate(kept) if kept else None)


def embedded(module: SiameseModule, data: SiameseData, name: str, settings: Evaluation) -> Part:
    """The part ``name`` of ``data``, that ``module`` has just embedded."""
    index = data.parts[name]
    labels = data.source.labels.numpy()[index]
    return Part(
        name,
        module.embeddings.numpy(),
        labels,
        data.source.ids[index],
        data.source.class_names,
        np.searchsorted(index, data.triplets[name]),
        lambda positions: pixels(data.source.images, index[positions]),
        roles_of(data.source, index, settings),
        not np.isin(labels[labels >= 0], data.source.labels.numpy()[data.parts["train"]]).any(),
    )


class EveryEpochs(pl.Callback):
    """Measures everything on the validation images every ``settings.every`` epochs,
    before training too. It comes before the callback that records what the module has measured."""

    def __init__(self, settings: Evaluation) -> None:
        self.settings = settings

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SiameseModule)
        assert self.settings.every is not None
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        if trainer.state.fn != "fit" or epoch % self.settings.every:
            return
        part = embedded(pl_module, pl_module.data, "validation", self.settings)
        settings = dataclasses.replace(self.settings, resamples=0)
        found = defined(measured(part, settings, settings.distance_threshold).values)
        more = {name: value for name, value in found.items() if name not in pl_module.measured}
        pl_module.measured |= more
        for logger in trainer.loggers:
            logger.log_metrics({f"val/{name}": value for name, value in more.items()}, trainer.global_step)


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
            images=pixels(data.source.images, shown),
            labels=labels[shown],
            distances=torch.linalg.vector_norm(first - second, dim=1).numpy(),
            threshold=np.array(module.settings.pair_distance),
            class_names=np.array(data.source.class_names),
        )
    found = module.measure_pairs(train, "train")
    entries = {f"train/{name}": entry(value, "train", epoch, direction(name)) for name, value in found.items()}
    return entries, [f"training pairs: {', '.join(f'{name} {value:.4f}' for name, value in found.items())}"]
