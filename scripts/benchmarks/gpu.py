"""What is measured on a CUDA card, in float32 and in bf16. ``setup.device`` is the card; tests put the CPU there.

Time is taken when the card has done all that it was asked for. A peak is of what tensors take on the card, of one side
alone, its network and its data there included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch

from benchmarks.card import with_peak
from benchmarks.evaluation import seconds_to_measure
from benchmarks.fitting import fit
from benchmarks.rate import flop_of, seconds_a_product, share_reached
from benchmarks.setup import Setup, composed
from benchmarks.timing import interleaved, paired_ratios, result
from benchmarks.training import STEPS_A_TURN, Notebook, Ours, bare_epoch, fitted_epoch, notebook, seconds_a_step, train
from benchmarks.windows import IN_WINDOW, window_seconds, window_words

Loop = TypeVar("Loop", Ours, Notebook)
Results = list[dict[str, Any]]
WINDOW = 8  # micro-batches of IN_WINDOW triplets
EMBEDDINGS = 60_000
STEPS = 10  # of a turn
EPOCHS = 3  # that count; one before them does not


def precisions(setup: Setup) -> dict[str, torch.dtype]:
    """The options of ``device=`` that are measured, and what each computes in."""
    return {setup.device: torch.float32, f"{setup.device}_bf16": torch.bfloat16}


def step(setup: Setup) -> Results:
    """A step against the notebook's, whose images are transformed on the CPU, and the share of the card's rate of
    matrix products that it reaches; both in this process."""
    found = []
    for device, dtype in precisions(setup).items():
        what = f"a step of {setup.batch} triplets under device={device}"
        theirs, of_theirs = _started(setup, partial(notebook, setup))
        ours, of_ours = _started(setup, partial(Ours, setup.source, setup.config(f"device={device}")))
        sides: dict[str, Callable[[], float]] = {
            "notebook": partial(seconds_a_step, theirs),
            "ours": partial(seconds_a_step, ours, STEPS),
            "product": partial(seconds_a_product, setup.device, dtype),
        }
        samples = interleaved(sides, setup.repeats)
        ratios = paired_ratios(samples["notebook"], samples["ours"])
        flop = flop_of(partial(ours.loss, next(ours.batches)))
        found += [
            result(f"speed of {what}, of the notebook's in float32", "×", ratios, "≥", None, **samples),
            result(f"seconds of {what}", "s", samples["ours"], "<", None),
            share_reached(what, setup.device, flop, samples["ours"], samples["product"]),
            result(f"peak of {what}", "bytes", [of_ours], "<", None),
            result(f"peak of the notebook's, measured beside {what}", "bytes", [of_theirs], "<", None),
        ]
        notebook.cache_clear()
    return found


def _started(setup: Setup, make: Callable[[], Loop]) -> tuple[Loop, float]:
    """What ``make`` makes, after some steps, and the peak of making it and of these."""

    def run() -> Loop:
        loop = make()
        train(loop, STEPS_A_TURN)
        return loop

    return with_peak(setup.device, run)


def epoch(setup: Setup) -> Results:
    """An epoch through train.py's path against a bare loop."""
    found = []
    for device in precisions(setup):
        config = setup.config(f"device={device}")
        run = {"fit": partial(fitted_epoch, setup.source, config), "bare": partial(bare_epoch, setup.source, config)}
        peaks = {name: [with_peak(setup.device, side)[1]] for name, side in run.items()}
        samples = interleaved(run, setup.repeats)
        what = f"an epoch of {setup.epoch_steps} steps with validation and checkpoint under device={device}"
        ratios = paired_ratios(samples["fit"], samples["bare"])
        found.append(result(f"time of {what}, of a bare loop's", "×", ratios, "≤", 1.03, **samples))
        found.append(result(f"peak of {what}", "bytes", peaks["fit"], "<", None, **peaks))
    return found


def windows(setup: Setup) -> Results:
    """An exact window, and the same triplets as one full batch, against naive accumulation."""
    found = []
    for device in precisions(setup):
        configs = {mode: setup.config(*window_words(mode, WINDOW, device)) for mode in ("naive", "exact", "full")}
        run = {mode: partial(window_seconds, setup.source, config) for mode, config in configs.items()}
        peaks = {mode: with_peak(setup.device, side)[1] for mode, side in run.items()}
        samples = interleaved(run, setup.repeats)
        of = f"a window of {WINDOW} × {IN_WINDOW} triplets under device={device}"
        for mode, target in (("exact", 1.35), ("full", None)):
            ratios = paired_ratios(samples[mode], samples["naive"])
            found.append(result(f"time of {of}, {mode}, of naive's", "×", ratios, "≤", target, **samples))
        ratios = paired_ratios(samples["exact"], samples["full"])
        found.append(result(f"time of {of}, exact, of the full batch's", "×", ratios, "≤", None))
        found += [result(f"peak of {of}, {mode}", "bytes", [peak], "<", None) for mode, peak in peaks.items()]
    return found


def evaluate(setup: Setup, images: int = EMBEDDINGS) -> Results:
    """Every measure of so many embeddings."""
    run = partial(seconds_to_measure, images, setup.device)
    peak = with_peak(setup.device, run)[1]  # which is the turn that does not count, too
    seconds = [run()]
    what = f"every measure on {images:,} images of 128 dimensions"
    return [result(what, "s", seconds, "<", None), result(f"peak of {what}", "bytes", [peak], "<", None)]


def experiment(name: str, setup: Setup, epochs: int = EPOCHS) -> Results:
    """Epochs of ``experiment=NAME`` from random weights, in the seconds that its metrics.csv has: steps, embedding the
    validation images and measuring them."""
    found = []
    for device in precisions(setup):
        few = f"trainer.max_epochs={epochs + 1}"
        config = composed(setup.experiment(f"experiment={name}", f"device={device}", few))
        rows, peak = with_peak(setup.device, partial(fit, setup.source, config))
        what = f"experiment={name} under device={device}"
        steps = int(rows[-1]["step"]) // (epochs + 1)
        seconds = [float(row["seconds"]) for row in rows[2:]]  # after epoch 0, and one that warms up
        found.append(result(f"an epoch of {what} ({steps:,} steps)", "s", seconds, "<", None))
        found.append(result(f"peak of {what}", "bytes", [peak], "<", None))
    return found


MEASUREMENTS: dict[str, tuple[Callable[[Setup], Results], str]] = {
    "step": (step, "a training step of VGG11 against the notebook's, and of the card's rate of matrix products"),
    "epoch": (epoch, "an epoch through train.py's path against a bare loop, both with validation"),
    "accumulation": (windows, "a window of 8 x 16 triplets, exact and as one full batch, against naive"),
    "evaluate": (evaluate, "every measure of 60,000 embeddings"),
    "article": (partial(experiment, "article"), "epochs of experiment=article from random weights"),
    "from_scratch": (partial(experiment, "from_scratch"), "epochs of experiment=from_scratch"),
}
