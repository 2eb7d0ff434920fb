"""Whole commands as a user types them: how soon train.py answers, and how much memory a run takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from typing import Any

from benchmarks import ROOT
from benchmarks.setup import BATCH, Setup
from benchmarks.timing import IMPORTS, interleaved, paired_ratios, peak_bytes, result

LARGE_WINDOW = 4096
JOBS = 12  # of a sweep; a process that jobs are forked from is started once


def startup(setup: Setup) -> list[dict[str, Any]]:
    """The commands that train nothing: train.py --cfg job, and --help."""

    def run(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    found = interleaved({"--cfg job": partial(run, "--cfg", "job"), "--help": partial(run, "--help")}, setup.repeats)
    targets = {"--cfg job": 0.8, "--help": None}
    return [result(f"python train.py {name}", "s", found[name], "<", targets[name]) for name in found]


def sweep(setup: Setup) -> list[dict[str, Any]]:
    """Sweeps of short jobs on digits, one job after the other: forked, and each started anew."""

    def run(isolate: str) -> float:
        few = ("experiment=quickstart", "trainer.max_epochs=3", "figures.draw=false", f"seed=range({JOBS})")
        with tempfile.TemporaryDirectory() as folder:
            words = ("-m", *few, f"sweep.isolate={isolate}", f"hydra.sweep.dir={folder}/sweep")
            began = time.perf_counter()
            subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
            return (time.perf_counter() - began) / JOBS

    found = interleaved({"anew": partial(run, "true"), "forked": partial(run, "fork")}, setup.repeats)
    ratios = paired_ratios(found["anew"], found["forked"])
    each = [result(f"seconds a job of 3 epochs on digits, {name}", "s", found[name], "<", None) for name in found]
    return [result("jobs a minute, forked against started anew", "×", ratios, "≥", 3.0, **found), *each]


def memory(setup: Setup) -> list[dict[str, Any]]:
    """Peak memory of a whole train.py run on 50,000 images, less that of importing torch and Lightning."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            few = ("device=cpu", "trainer.limit_train_batches=3", f"hydra.run.dir={folder}/run")
            return peak_bytes("-c", TRAINS, *setup.words(*few))

    samples = interleaved({"imports": partial(peak_bytes, "-c", IMPORTS), "train": run}, setup.repeats)
    more = [b - a for a, b in zip(samples["imports"], samples["train"], strict=True)]
    return [result("peak of train.py beyond importing torch and Lightning", "bytes", more, "<", 1e9, **samples)]


def large_window(setup: Setup) -> list[dict[str, Any]]:
    """A whole train.py run with windows of 4,096 triplets, exact, its imports and images included."""
    window = LARGE_WINDOW // BATCH
    many = (f"trainer.accumulate_grad_batches={window}", f"trainer.limit_train_batches={window}")
    words = ("device=cpu", "loss=triplet_koleo", "accumulation=exact", *many)
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_bytes("-c", TRAINS, *setup.words(*words, f"hydra.run.dir={folder}/run"))
    return [result(f"peak of train.py with a window of {LARGE_WINDOW:,} triplets, exact", "bytes", [peak], "<", 2e9)]


# train.py as it is, but that without a folder of images its loader hands out random ones.
TRAINS = """
import runpy, sys
if "data=image_folder" not in sys.argv:
    sys.path.append("scripts")
    from benchmarks.setup import random_images
    import siamese.training.run
    siamese.training.run.load_to_train = lambda data, seed: random_images()
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""
