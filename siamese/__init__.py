"""Train embedding networks on labelled images, and study how they are trained."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from siamese import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siamese.encoder import Encoder
    from siamese.evaluation.names import Values
    from siamese.index import Index
    from siamese.runs.opened import OpenRun

__version__ = "0.1.0"
__all__ = ["errors", "load_run", "measure", "open_index", "open_run", "train"]


def train(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> OpenRun:
    """Train one run as ``python train.py OVERRIDES`` does, and open it.

    The caller's program is left as it was: its random generators, torch's settings, its handlers of signals and of
    log records, its environment.

    Args:
        overrides: ``GROUP=OPTION`` and ``KEY=VALUE``, one each.
        config_dir: a folder of options of one's own.

    Raises:
        ConfigError: for what cannot be run as it stands, in the words of the command.
        RunError: for what fails while running.
        KeyboardInterrupt: when it was interrupted; ``resume=DIR`` goes on.
    """
    from siamese.commands.in_python import train  # torch and Hydra take seconds to import

    return train(overrides, config_dir)


def open_run(directory: str | os.PathLike[str]) -> OpenRun:
    """Open a completed run to read its summary, metrics, arrays and figures. No torch is imported.

    Raises:
        ConfigError: for a directory that is no run.
        RunError: for a run that is not completed or cannot be read.
    """
    from siamese.runs.opened import open_run

    return open_run(directory)


def load_run(
    directory: str | os.PathLike[str],
    *,
    by: str | None = None,
    checkpoint: str = "best",
    device: str | None = None,
    precision: str | None = None,
    trust: str | Sequence[str] = (),
) -> Encoder:
    """Load the trained network of a run, to embed images with it.

    Nothing that the run directory holds is executed: weights are read as plain tensors, and the network is made of
    what siamese, torch and torchvision have, or of modules that you ``trust``.

    Args:
        directory: a run, or a folder of runs, of which the best is taken.
        by: what it is the best by: a measure of summary.json, such as ``val/auc``.
        checkpoint: best, last, or another of the run's.
        device: auto, cpu, cuda, cuda:1, mps; None is what the run had, where it is here.
        precision: auto, 32-true, 64-true, bf16-mixed or 16-mixed; None is the run's.
        trust: modules of yours that the run names its model of.

    Raises:
        ConfigError: for a directory that is no run, of several runs where ``by`` does not say which, or of a later
            version; for a model that is not trusted or cannot be imported, and a device that is not there.
        RunError: for a checkpoint that is not there, damaged or of another run.
    """
    from siamese.encoder.load import load_run  # which imports torch

    return load_run(directory, by=by, checkpoint=checkpoint, device=device, precision=precision, trust=trust)


def open_index(folder: str | os.PathLike[str]) -> Index:
    """Open an index that scripts/index.py made, to look in with ``encoder.search(images, among=index)``.

    Raises:
        ConfigError: for what is no index, one of a later version, and where faiss is not installed.
        RunError: for an index that is damaged or cut short.
    """
    from siamese.index import open_index

    return open_index(folder)


def measure(embeddings: Any, labels: Any, *, queries: Any = None, gallery: Any = None) -> Values:
    """Measure ``embeddings``, array-like or a tensor [N, D], of classes ``labels`` [N], wherever they come from.

    The numbers are those that scripts/evaluate.py gives for other images than a run's own, with the default settings
    and seed 0, where the embeddings come in the same order and the labels sort as the classes there do.

    Args:
        labels: whole numbers or text; an image whose label is below 0, NaN or None has no class.
        queries, gallery: who looks for whom, as masks, bool [N], or as positions; None is all images.

    Returns:
        The measures by name, each a number or a :class:`siamese.evaluation.Undefined`, which has the reason.

    Raises:
        ConfigError: for shapes that do not fit, or embeddings that are NaN, infinite or zero.
    """
    from siamese.evaluator.bare import measure_embeddings  # which imports torch

    return measure_embeddings(embeddings, labels, queries, gallery)
