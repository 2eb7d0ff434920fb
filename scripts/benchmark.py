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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.commands import large_window, memory, startup, sweep
from benchmarks.evaluation import evaluate
from benchmarks.image_files import decoding, large_collection
from benchmarks.losses import against_library
from benchmarks.models import models
from benchmarks.retrieval import at_scale
from benchmarks.serving import serving
from benchmarks.setup import Setup
from benchmarks.timing import machine
from benchmarks.training import against_notebook, epoch
from benchmarks.windows import accumulation

MEASUREMENTS: dict[str, tuple[Callable[[Setup], list[dict[str, Any]]], str]] = {
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
    "startup": (startup, "python train.py --cfg job, and --help"),
}

JSON_SHAPE = """FILE gets schema_version, command, repeats, machine and, by name, the measurements, each a list of
{what, unit, median, low, high, sense, target, met, values, samples}."""


def show(report: dict[str, Any], console: Console) -> None:
    """Print a report as a table, and below it what it was measured on."""
    table = Table("measurement", "of what", "median", "least – greatest", "target", "")
    for name, results in report["measurements"].items():
        for found in results:
            scale, unit = (1e6, "MB") if found["unit"] == "bytes" else (1, found["unit"])
            median, low, high = (f"{found[key] / scale:,.3f}" for key in ("median", "low", "high"))
            target = "" if found["target"] is None else f"{found['sense']} {found['target'] / scale:,g} {unit}"
            verdict = {None: "", True: "[green]met", False: "[red]not met"}[found["met"]]
            table.add_row(name, found["what"], f"{median} {unit}", f"{low} – {high}", target, verdict)
    console.print(table)
    facts = report["machine"]
    console.print(", ".join(f"{key} {value}" for key, value in facts.items()), markup=False, highlight=False)
    console.print(f"{report['repeats']} repeats of {report['command']}", markup=False, highlight=False)
    if facts["load"] > facts["cores"] / 4:
        console.print("The machine was busy before this began: do not trust these timings.", style="yellow")


def main(arguments: Sequence[str] | None = None) -> None:
    lines = [f"  {name:16} {what}" for name, (_, what) in MEASUREMENTS.items()]
    epilog = "\n".join(["measurements:", *lines, "", JSON_SHAPE])
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=epilog, formatter_class=style)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help="only this; repeatable")
    parser.add_argument("--repeats", type=int, default=7, metavar="N", help="turns that count (7)")
    parser.add_argument("--epoch-steps", type=int, default=60, metavar="N", help="steps in an epoch of `epoch` (60)")
    parser.add_argument("--data-root", type=Path, metavar="PATH", help="a folder of images, in place of random ones")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    asked = parser.parse_args(arguments)
    if min(asked.repeats, asked.epoch_steps) < 1:
        parser.error("--repeats and --epoch-steps: expected at least 1")
    logging.disable(logging.WARNING)  # what a few steps on noise come to is no news
    warnings.simplefilter("ignore")
    console, setup = Console(), Setup(asked.repeats, asked.epoch_steps, asked.data_root and asked.data_root.resolve())
    command = shlex.join(["python", "scripts/benchmark.py", *(sys.argv[1:] if arguments is None else arguments)])
    report: dict[str, Any] = {"schema_version": 1, "command": command, "repeats": asked.repeats, "machine": machine()}
    report["measurements"] = {}
    for name in dict.fromkeys(asked.only or MEASUREMENTS):
        console.print(f"measuring {name}", style="dim")
        report["measurements"][name] = MEASUREMENTS[name][0](setup)
    show(report, console)
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
