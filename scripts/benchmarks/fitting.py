"""A fit as train.py has it, without what comes before and after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytorch_lightning as pl

from siamese.config.schema import Config
from siamese.data import LabelledImages
from siamese.runs.directory import RunDirectory
from siamese.runs.locks import release
from siamese.training.build import build, make_callbacks, make_trainer, quieten, split_data
from siamese.training.signals import StopRequest


def fit(source: LabelledImages, config: Config, *more: pl.Callback) -> list[dict[str, str]]:
    """Train as ``config`` says, validate and save after each epoch, in a folder that is then removed.

    Returns:
        The rows of its metrics.csv, epoch 0 (before training) first. ``seconds`` are those of an epoch from its first
        step to the end of its validation: batches, steps, embedding the validation images and measuring them, but
        not writing the checkpoint. Those of epoch 0 are from the begin of fit.
    """
    quieten()
    pl.seed_everything(config.seed, workers=True, verbose=False)
    data = split_data(config, source)
    module = build(config, data)
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        run = RunDirectory(Path(folder))
        try:
            _, callbacks = make_callbacks(config, run, stop)
            make_trainer(config, run.path, [*more, *callbacks]).fit(module, datamodule=data)
            return run.history()
        finally:
            release(run.path)
