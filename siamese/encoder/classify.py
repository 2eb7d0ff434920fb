"""The classes of a run, told by the weights that its loss has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from siamese.config.schema import Config
from siamese.config.trust import refuse_strangers
from siamese.errors import RunError
from siamese.losses.logits import class_logits, class_loss
from siamese.losses.make import make_loss, weighs_classes
from siamese.runs.arrays import read_arrays
from siamese.runs.checkpoint import restore


class Classified(NamedTuple):
    """What N images are taken for.

    Attributes:
        classes: text [N], the most probable class of each.
        probabilities: float64 [N, C].
        class_names: of the C classes that were trained on.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    class_names: list[str]


class Classifier:
    """The class weights of a checkpoint."""

    def __init__(self, weighing: nn.Module, class_names: Sequence[str]) -> None:
        self.weighing, self.class_names = weighing, list(class_names)

    def __call__(self, embeddings: Tensor) -> Classified:
        """Classify ``embeddings`` [N, D]."""
        with torch.no_grad():
            probabilities = class_logits(self.weighing, embeddings).double().softmax(1).numpy()
        names = np.array(self.class_names)
        return Classified(names[probabilities.argmax(axis=1)], probabilities, self.class_names)


def classifier_of(
    run: Path,
    config: Config,
    manifest: Mapping[str, Any],
    checkpoint: Path,
    epoch: int,
    dimensions: int,
    trust: str | Sequence[str],
) -> Classifier:
    """The class weights of ``checkpoint``, whose network is of ``epoch``.

    Raises:
        ConfigError: for a loss of one's own that is not trusted, or cannot be imported.
        RunError: for a loss without class weights, and for a checkpoint that has gone on meanwhile.
    """
    refuse_strangers(config, [trust], [], "load_run with trust=", ["loss"])
    name = str(config.loss["_target_"]).rpartition(".")[2]
    if not weighs_classes(config.loss):
        raise RunError(
            f"{run}: its loss, {name}, has no class weights to tell classes by; search finds the nearest images"
        )
    class_names = _trained_classes(run, manifest)
    with torch.random.fork_rng(devices=[]):  # the weights that it is made with are drawn, and then written over
        loss = make_loss(config.loss, len(class_names), dimensions)
    if restore(loss, checkpoint, prefix="objective.base.", run_id=manifest["run_id"]) != epoch:
        raise RunError(f"{checkpoint}: has gone on since the encoder was loaded; load it again")
    weighing = class_loss(loss.eval())
    if weighing is None:
        raise RunError(
            f"{run}: its loss, {name}, does not say what it takes an image for; expected a method get_logits"
        )
    return Classifier(weighing, class_names)


def _trained_classes(run: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The names of the classes that were trained on, in the order of their weights."""
    names, split = manifest["data"]["classes"], manifest["split"]["classes"]["train"]
    for part in ("validation", "test"):
        if (run / "arrays" / f"logits_{part}.npz").exists():
            return [names[label] for label in read_arrays(run / "arrays" / f"logits_{part}.npz", "classes")["classes"]]
    return [name for name in names if name in split]
