"""A window of micro-batches: exact accumulation and one full batch against naive accumulation."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LambdaCallback

from benchmarks.setup import Setup, random_images
from benchmarks.timing import interleaved, now, paired_ratios, peak_bytes, result
from siamese.config.schema import Config
from siamese.data import LabelledImages
from siamese.training.build import build, split_data
from siamese.training.precision import precision_of

WINDOWS, IN_WINDOW = (1, 2, 4, 8, 16), 16


def window_words(mode: str, window: int, device: str = "cpu") -> tuple[str, ...]:
    """train.py's words for ``window`` micro-batches of IN_WINDOW triplets, or all of them at once (``full``), under
    ``device=``."""
    cut, batch = (1, IN_WINDOW * window) if mode == "full" else (window, IN_WINDOW)
    kind = "naive" if mode == "full" else mode
    many = (f"data.batch_size={batch}", f"trainer.accumulate_grad_batches={cut}")
    return (f"device={device}", "loss=triplet_koleo", f"accumulation={kind}", *many)


def window_seconds(source: LabelledImages, config: Config) -> float:
    """Seconds of the second optimizer step through Lightning, from its first micro-batch to the end of its last."""
    torch.manual_seed(config.seed)
    data = split_data(config, source)
    times, device, window = list[float](), config.device.accelerator, config.trainer.accumulate_grad_batches

    def begins(trainer: pl.Trainer, module: pl.LightningModule, batch: Any, place: int) -> None:
        if place == window:
            times.append(now(device))

    def ends(trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, place: int) -> None:
        if place == 2 * window - 1:
            times.append(now(device))

    trainer = pl.Trainer(
        accelerator=device,
        devices=1,
        precision=precision_of(config),  # type: ignore[arg-type]
        max_steps=2,
        accumulate_grad_batches=window,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[LambdaCallback(on_train_batch_start=begins, on_train_batch_end=ends)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(build(config, data), datamodule=data)
    began, ended = times
    return ended - began


def images(setup: Setup) -> LabelledImages:
    """The setup's own images, or no more random ones than two windows need, so that these do not make the peak."""
    return setup.source if setup.data_root else random_images(4_000, 400)


def accumulation(setup: Setup) -> list[dict[str, Any]]:
    """A window through exact accumulation and as one full batch, in times of naive; and the peak memory of each."""
    found, source = [], images(setup)
    for window in WINDOWS:
        configs = {mode: setup.config(*window_words(mode, window)) for mode in ("naive", "exact", "full")}
        sides = {mode: partial(window_seconds, source, config) for mode, config in configs.items()}
        samples = interleaved(sides, setup.repeats)
        of = f"a window of {window} × {IN_WINDOW} triplets"
        for mode, target in (("exact", 1.35), ("full", None)):
            ratios = paired_ratios(samples[mode], samples["naive"])
            found.append(result(f"time of {of}, {mode}, of naive's", "×", ratios, "≤", target, **samples))
        for mode in configs:
            peak = peak_bytes("-c", ONE_WINDOW, *setup.words(*window_words(mode, window)))
            found.append(result(f"peak of a process with {of}, {mode}", "bytes", [peak], "<", None))
    return found


# Two optimizer steps of a configuration, in a process of its own.
ONE_WINDOW = """
import sys
from pathlib import Path
sys.path.append("scripts")
from benchmarks.setup import Setup
from benchmarks.windows import images, window_seconds
root = next((word.partition("=")[2] for word in sys.argv if word.startswith("data.root=")), None)
setup = Setup(1, 1, root and Path(root))
window_seconds(images(setup), setup.config(*sys.argv[1:]))
"""
