"""Measure this project beside a plain training loop, and print each number with its target.

The two sides of a comparison take turns in one process (A B A B ...), after one turn each that does
not count; every ratio is of neighbours, and its median, least and greatest are shown. Timings mean
something on a machine that does nothing else: its load at the start is part of the report.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import gpu
from benchmarks.card import card
from benchmarks.commands import large_window, memory, startup, sweep
from benchmarks.evaluation import evaluate
from benchmarks.image_files import decoding, large_collection
from benchmarks.killed import killed
from benchmarks.losses import against_library
from benchmarks.models import models
from benchmarks.quality import quality
from benchmarks.retrieval import at_scale
from benchmarks.serving import serving
from benchmarks.setup import Setup
from benchmarks.timing import LeftOut, machine
from benchmarks.training import against_notebook, epoch
from benchmarks.windows import accumulation
from siamese.errors import nearest

Measurements = Mapping[str, tuple[Callable[[Setup], list[dict[str, Any]]], str]]

MEASUREMENTS: Measurements = {
    "step": (partial(against_notebook, "cpu", 1.25), "a float32 training step of VGG11 against the notebook's"),
    "step_bf16": (partial(against_notebook, "cpu_bf16", 2.2), "a bf16-mixed step against the notebook's float32 one"),
    "epoch": (epoch, "an epoch through train.py's path against a bare loop, both with validation"),
    "losses": (against_library, "losses over 1,024 embeddings against pytorch-metric-learning's; KoLeo's memory"),
    "memory": (memory, "peak of a whole train.py run on 50,000 images beyond its imports"),
    "evaluate": (evaluate, "every measure on 1,000, 10,000 and 50,000 embedded images: time and peak"),
    "at_scale": (at_scale, "measuring thousands of classes, beside pytorch-metric-learning's AccuracyCalculator"),
    "models": (models, "parameters, feature map and forward time of every model for 32x32 images"),
    "accumulation": (accumulation, "windows of 1 to 16 micro-batches: exact and one full batch against naive"),
    "large_window": (large_window, "peak of a train.py run with windows of 4,096 triplets"),
    "decoding": (decoding, "photographs decoded a second against torchvision's ImageFolder"),
    "large_collection": (
        large_collection,
        "a run on 100,000 decoded images of 224x224 (15 GB, made and removed): start, waiting, peak",
    ),
    "serving": (serving, "images embedded a second, in torch and onnxruntime; how long a search takes"),
    "sweep": (sweep, "short jobs of a sweep, forked against started anew"),
    "killed": (killed, "sweeps of 60 jobs, three of them killed while they train: wall time, and what is lost"),
    "quality": (quality, "seconds until a validation AUC of 0.90, 0.93 and 0.95, of real images (--data-root)"),
    "startup": (startup, "python train.py --cfg job, and --help"),
}
BOTH = (MEASUREMENTS, gpu.MEASUREMENTS)

JSON_SHAPE = """FILE gets schema_version, command, repeats, machine, by name the measurements, each a list of
{what, unit, median, low, high, sense, target, met, note, values, samples}, and by name why some were left out."""


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as a table, and below it what it was measured on."""
    table = Table("measurement", "of what", "median", "least – greatest", "target", "")
    for name, results in report["measurements"].items():
        for found in results:
            scale, unit = (1e6, "MB") if found["unit"] == "bytes" else (1, found["unit"])
            if found["median"] is None:
                table.add_row(name, found["what"], "–", "", "", "not reached")
                continue
            median, low, high = (f"{found[key] / scale:,.3f}" for key in ("median", "low", "high"))
            target = "" if found["target"] is None else f"{found['sense']} {found['target'] / scale:,g} {unit}"
            verdict = {None: "", True: "[green]met", False: "[red]not met"}[found["met"]]
            table.add_row(name, found["what"], f"{median} {unit}", f"{low} – {high}", target, verdict)
    console.print(table)
    said = [found["note"] for results in report["measurements"].values() for found in results if found["note"]]
    for line in [*said, *(f"{name} is left out: {why}" for name, why in report["left_out"].items())]:
        console.print(line, markup=False, highlight=False)
    facts = report["machine"]
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), markup=False, highlight=False)
    console.print(f"{report['repeats']} repeats of {report['command']}", markup=False, highlight=False)
    if facts["load"] > facts["cores"] / 4:
        console.print("The machine was busy before this began: do not trust these timings.", style="yellow")


def measured(measurements: Measurements, setup: Setup, console: Console) -> dict[str, Any]:
    """What a report holds of ``measurements``: their results, and why some were left out."""
    found: dict[str, Any] = {"measurements": {}, "left_out": {}}
    for name, (measure, _) in measurements.items():
        console.print(f"measuring {name}", style="dim")
        try:
            found["measurements"][name] = measure(setup)
        except LeftOut as why:
            found["left_out"][name] = str(why)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    here, on_card = ([f"  {name:16} {what}" for name, (_, what) in of.items()] for of in BOTH)
    epilog = "\n".join(["measurements:", *here, "", "with --gpu:", *on_card, "", JSON_SHAPE])
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=epilog, formatter_class=style)
    parser.add_argument("--only", action="append", metavar="NAME", help="only this; repeatable")
    parser.add_argument("--gpu", action="store_true", help="measure on the CUDA card, in float32 and bf16")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="turns that count (7)")
    parser.add_argument("--epoch-steps", type=int, default=60, metavar="N", help="steps in an epoch of `epoch` (60)")
    parser.add_argument("--data-root", type=Path, metavar="PATH", help="a folder of images, in place of random ones")
    parser.add_argument(
        "--quality-seconds", type=int, default=1200, metavar="N", help="of training, in `quality`, at most (1200)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    asked = parser.parse_args(arguments)
    if min(asked.repeats, asked.epoch_steps, asked.quality_seconds) < 1:
        parser.error("--repeats, --epoch-steps and --quality-seconds: expected at least 1")
    measurements = gpu.MEASUREMENTS if asked.gpu else MEASUREMENTS
    for name in asked.only or ():
        if name not in measurements:
            among = f"one of {', '.join(measurements)}{' with --gpu' if asked.gpu else ''}"
            parser.error(f"--only {name}: expected {among}{nearest(name, measurements)}")
    facts = card() if asked.gpu else {}
    logging.disable(logging.WARNING)  # what a few steps on noise come to is no news
    warnings.simplefilter("ignore")
    console, root = Console(), asked.data_root and asked.data_root.resolve()
    device = "cuda" if asked.gpu else "cpu"
    setup = Setup(asked.repeats, asked.epoch_steps, root, device, asked.quality_seconds)
    command = shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if arguments is None else arguments)])
    began = {"schema_version": 1, "command": command, "repeats": asked.repeats, "machine": machine() | facts}
    report = began | measured({name: measurements[name] for name in asked.only or measurements}, setup, console)
    show(report, console)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
