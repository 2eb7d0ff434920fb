"""Measure this project beside a plain training loop, and print each number with its target.

The two sides of a comparison take turns in one process (A B A B ...), after one turn each that does
not count; every ratio is of neighbours, and its median, least and greatest are shown. Timings mean
something on a machine that does nothing else: its load at the start is part of the report.
"""

from __future__ import annotations

import argparse
import json
import logging
import operator
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import chain, islice, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault(HUGE_PAGES := "THP_MEM_ALLOC_ENABLE", "1")  # as train.py does, before torch reads it

import numpy as np
import pytorch_lightning as pl
import torch
import torchvision
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, RandomCrop, RandomHorizontalFlip

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from siamese.artifacts import RunDirectory, release  # noqa: E402
from siamese.callbacks import Recorder  # noqa: E402
from siamese.checkpoints import Checkpoints, StopRequest  # noqa: E402
from siamese.config import validate  # noqa: E402
from siamese.data import Batch, LabelledImages, SiameseData, load  # noqa: E402
from siamese.evaluation.measure import measure  # noqa: E402
from siamese.run import build, make_trainer, split_data  # noqa: E402
from siamese.schema import Config  # noqa: E402
from siamese.targets import make  # noqa: E402

BATCH, NOTEBOOK_TRIPLETS, STEPS_A_TURN = 64, 2048, 3
MEETS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


def spread(values: Sequence[float]) -> dict[str, float]:
    """``median``, least (``low``) and greatest (``high``) of ``values``, in their unit."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def paired_ratios(upper: Sequence[float], lower: Sequence[float]) -> list[float]:
    """``upper[i] / lower[i]``, a number without unit, of quantities measured in turn and in one unit."""
    return [a / b for a, b in zip(upper, lower, strict=True)]


def interleaved(sides: Mapping[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """What each side returned at each of ``repeats`` turns, in its unit; one turn before them is dropped."""
    turns = [{name: side() for name, side in sides.items()} for _ in range(repeats + 1)][1:]
    return {name: [turn[name] for turn in turns] for name in sides}


def result(
    what: str, unit: str, values: list[float], sense: str, target: float | None, **samples: list[float]
) -> dict[str, Any]:
    """One quantity as JSON types: its values, one a repeat, their spread and the target, all in ``unit``
    (×, s or bytes); whether the median meets the target; and what each side measured (s or bytes)."""
    found = spread(values)
    met = None if target is None else MEETS[sense](found["median"], target)
    verdict = {"sense": sense, "target": target, "met": met}
    return {"what": what, "unit": unit, **found, **verdict, "values": values, "samples": samples}


@dataclass(frozen=True)
class Setup:
    """What the measurements share: how often, how many steps an epoch has, and on which images."""

    repeats: int
    epoch_steps: int
    data_root: Path | None

    def words(self, *more: str) -> list[str]:
        """What follows ``train.py`` to train VGG11 from random weights on these images."""
        images = [f"data.root={self.data_root}", "data=image_folder"] if self.data_root else []
        fixed = [f"data.batch_size={BATCH}", "model.pretrained=false", "trainer.max_epochs=1"]
        return [*images, *fixed, f"trainer.limit_train_batches={self.epoch_steps}", *more]

    def config(self, *more: str) -> Config:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return validate(compose("train", [*self.words(*more), "name=benchmark"]))

    @cached_property
    def source(self) -> LabelledImages:
        return load(self.config().data, seed=0) if self.data_root else random_images()


def random_images(train: int = 50_000, test: int = 10_000) -> LabelledImages:
    """uint8 noise [train + test, 3, 32, 32] in ten equal classes: CIFAR-10 in shape."""
    count = train + test
    return LabelledImages(
        torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        torch.arange(count) % 10,
        tuple(str(label) for label in range(10)),
        np.array([f"noise/{i:05d}" for i in range(count)]),
        np.arange(count) >= train,
    )


class Ours:
    """The project's batches, augmentation, network, objective, optimizer and precision."""

    def __init__(self, source: LabelledImages, config: Config) -> None:
        torch.manual_seed(config.seed)
        self.data = split_data(config, source)
        self.module = build(config, self.data)
        self.optimizer = self.module.make_optimizer(self.module.parameters())
        mixed = config.device.precision == "bf16-mixed"
        self.precision = MixedPrecision("bf16-mixed", "cpu") if mixed else Precision()
        self.batches = chain.from_iterable(repeat(self.data.loader))

    def loss(self, batch: Batch) -> Tensor:
        """The scalar that a step minimises, without unit."""
        batch = self.data.on_after_batch_transfer(batch, 0)
        with self.precision.forward_context():
            return self.module.objective(self.module(batch.images), batch.labels, batch.tuples)[0]


class Notebook:
    """The same training as a notebook has it: float32 triplets in memory, every image transformed by
    itself, three passes through the network, torch's own layout, precision and Adam.

    Args:
        triplets: float32 [T, 3, 3, 32, 32] in [0, 1]; ``mean`` and ``std`` of each channel likewise.
    """

    def __init__(self, triplets: Tensor, mean: Sequence[float], std: Sequence[float], augment: bool = True) -> None:
        random = [RandomCrop(32, padding=4), RandomHorizontalFlip()] if augment else []
        self.triplets, self.transform = triplets, Compose([*random, Normalize(mean, std)])
        # To be a data set for this loader takes no more than len() and [].
        loader: Any = torch.utils.data.DataLoader(self, BATCH, shuffle=True, num_workers=0)  # type: ignore[arg-type]
        self.batches = chain.from_iterable(repeat(loader))
        features = torchvision.models.vgg11().features
        self.net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 128))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=5e-4)

    def __len__(self) -> int:
        return len(self.triplets)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        anchor, positive, negative = self.triplets[index]
        return self.transform(anchor), self.transform(positive), self.transform(negative)

    def loss(self, batch: Sequence[Tensor]) -> Tensor:
        """The scalar that a step minimises, without unit."""
        anchor, positive, negative = (self.net(images) for images in batch)
        similar = nn.functional.cosine_similarity(anchor, positive)
        different = nn.functional.cosine_similarity(anchor, negative)
        return torch.relu(different - similar + 0.4).mean()


def train(loop: Ours | Notebook, steps: int) -> None:
    for batch in islice(loop.batches, steps):
        loss = loop.loss(batch)
        loop.optimizer.zero_grad()
        loss.backward()
        loop.optimizer.step()


def seconds_a_step(loop: Ours | Notebook) -> float:
    """Seconds of one step, its data included: the mean of a turn."""
    began = time.perf_counter()
    train(loop, STEPS_A_TURN)
    return (time.perf_counter() - began) / STEPS_A_TURN


@cache
def notebook(setup: Setup) -> Notebook:
    data = SiameseData(setup.source, setup.config("device=cpu").data, seed=0)
    return Notebook(setup.source.images[data.epoch(0).items[:NOTEBOOK_TRIPLETS]] / 255, data.mean, data.std)


def notebook_seconds(setup: Setup) -> float:
    """:func:`seconds_a_step` of the notebook of this process."""
    return seconds_a_step(notebook(setup))


def against_notebook(device: str, target: float, setup: Setup) -> list[dict[str, Any]]:
    """The seconds of the notebook's float32 step over those of ours under ``device=``, each in a process of
    its own, with the settings of the allocator that it would have."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = replace(setup)  # without the images, which it makes or reads for itself
        os.environ[HUGE_PAGES] = "0"
        pool.submit(notebook_seconds, there).result()  # the process starts here
        os.environ[HUGE_PAGES] = "1"
        ours = Ours(setup.source, setup.config(f"device={device}"))
        sides: dict[str, Callable[[], float]] = {
            "notebook": lambda: pool.submit(notebook_seconds, there).result(),
            "ours": partial(seconds_a_step, ours),
        }
        samples = interleaved(sides, setup.repeats)
    ratios = paired_ratios(samples["notebook"], samples["ours"])
    return [result(f"speed of a step of {BATCH} triplets, of the notebook's", "×", ratios, "≥", target, **samples)]


def fitted_epoch(source: LabelledImages, config: Config) -> float:
    """Seconds from the begin of the epoch to the end of fit: steps, validation, metrics and checkpoint."""
    torch.manual_seed(config.seed)
    data = split_data(config, source)
    module, began = build(config, data), list[float]()
    clock = LambdaCallback(on_train_epoch_start=lambda *_: began.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        run = RunDirectory(Path(folder))
        recorder = Recorder(run, config.callbacks)
        checkpoints = Checkpoints(run, stop, recorder.require_finite)
        make_trainer(config, run.path, [clock, recorder, checkpoints]).fit(module, datamodule=data)
        seconds = time.perf_counter() - began[-1]
        release(run.path)
    return seconds


def bare_epoch(source: LabelledImages, config: Config) -> float:
    """Seconds of the same steps and the same pass over the validation images, and nothing else."""
    ours = Ours(source, config)
    began = time.perf_counter()
    train(ours, int(config.trainer.limit_train_batches))
    with torch.inference_mode():
        ours.module.eval()
        for batch in ours.data.val_dataloader():
            ours.module(ours.data.on_after_batch_transfer(batch, 0).images)
    return time.perf_counter() - began


def epoch(setup: Setup) -> list[dict[str, Any]]:
    """An epoch through train.py's path against a bare loop; both embed the validation images."""
    config = setup.config("device=cpu")
    sides = {"fit": partial(fitted_epoch, setup.source, config), "bare": partial(bare_epoch, setup.source, config)}
    samples = interleaved(sides, setup.repeats)
    what = f"time of an epoch of {setup.epoch_steps} steps with validation and checkpoint, of a bare loop's"
    return [result(what, "×", paired_ratios(samples["fit"], samples["bare"]), "≤", 1.03, **samples)]


def losses(setup: Setup) -> list[dict[str, Any]]:
    """A forward and a backward pass of each loss of ours against the nearest of pytorch-metric-learning, and
    the memory of KoLeo over 16,384 embeddings."""
    import loss_speed

    found = []
    for name in loss_speed.RELATIVES:
        samples = interleaved(loss_speed.sides(name), setup.repeats)
        if "library" in samples:
            ratios = paired_ratios(samples["ours"], samples["library"])
            found.append(result(f"{name}, time of the nearest library loss's", "×", ratios, "<", 2, **samples))
        else:
            found.append(result(f"{name}, time", "s", samples["ours"], "<", None, **samples))
    peaks = interleaved({"imports": partial(peak_bytes, "-c", IMPORTS), "koleo": partial(peak_bytes, "-c", KOLEO)}, 1)
    more = [b - a for a, b in zip(peaks["imports"], peaks["koleo"], strict=True)]
    found.append(result("peak of KoLeo, N = 16,384, with its gradient", "bytes", more, "<", 1e9, **peaks))
    return found


KOLEO = """
import torch
from siamese.losses import koleo
koleo(torch.randn(16384, 128, requires_grad=True)).backward()
"""


WINDOWS, IN_WINDOW, LARGE_WINDOW = (1, 2, 4, 8, 16), 16, 4096


def window_words(mode: str, window: int) -> tuple[str, ...]:
    """train.py's words for ``window`` micro-batches of IN_WINDOW triplets, or all of them at once (``full``)."""
    cut, batch = (1, IN_WINDOW * window) if mode == "full" else (window, IN_WINDOW)
    kind = "naive" if mode == "full" else mode
    many = (f"data.batch_size={batch}", f"trainer.accumulate_grad_batches={cut}", f"trainer.limit_train_batches={cut}")
    return ("device=cpu", "loss=triplet_koleo", f"accumulation={kind}", *many)


def window_seconds(source: LabelledImages, config: Config) -> float:
    """Seconds of one optimizer step through Lightning, from its first micro-batch to the end of its last."""
    torch.manual_seed(config.seed)
    data = split_data(config, source)
    times = list[float]()
    clock = {
        hook: lambda *_: times.append(time.perf_counter()) for hook in ("on_train_batch_start", "on_train_batch_end")
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        accumulate_grad_batches=config.trainer.accumulate_grad_batches,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        callbacks=[LambdaCallback(**clock)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(build(config, data), datamodule=data)
    return times[-1] - times[0]


def accumulation(setup: Setup) -> list[dict[str, Any]]:
    """A window through exact accumulation and as one full batch, in times of naive; and the peak memory of each."""
    found = []
    for window in WINDOWS:
        configs = {mode: setup.config(*window_words(mode, window)) for mode in ("naive", "exact", "full")}
        sides = {mode: partial(window_seconds, setup.source, config) for mode, config in configs.items()}
        samples = interleaved(sides, setup.repeats)
        of = f"a window of {window} × {IN_WINDOW} triplets"
        for mode, target in (("exact", 1.35), ("full", None)):
            ratios = paired_ratios(samples[mode], samples["naive"])
            found.append(result(f"time of {of}, {mode}, of naive's", "×", ratios, "≤", target, **samples))
        for mode in configs:
            peak = peak_bytes("-c", ONE_WINDOW, *setup.words(*window_words(mode, window)))
            found.append(result(f"peak of a process with {of}, {mode}", "bytes", [peak], "<", None))
    return found


def large_window(setup: Setup) -> list[dict[str, Any]]:
    """A whole train.py run with windows of 4,096 triplets, exact, its imports and images included."""
    window = LARGE_WINDOW // BATCH
    many = (f"trainer.accumulate_grad_batches={window}", f"trainer.limit_train_batches={window}")
    words = ("device=cpu", "loss=triplet_koleo", "accumulation=exact", *many)
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_bytes("-c", TRAINS, *setup.words(*words, f"hydra.run.dir={folder}/run"))
    return [result(f"peak of train.py with a window of {LARGE_WINDOW:,} triplets, exact", "bytes", [peak], "<", 2e9)]


IMPORTS = "import torch, pytorch_lightning"
# One optimizer step of a configuration, in a process of its own.
ONE_WINDOW = """
import sys
sys.path.append("scripts")
import benchmark
root = next((word.partition("=")[2] for word in sys.argv if word.startswith("data.root=")), None)
setup = benchmark.Setup(1, 1, root and benchmark.Path(root))
benchmark.window_seconds(setup.source, setup.config(*sys.argv[1:]))
"""
# train.py as it is, but that without a folder of images its loader hands out random ones.
TRAINS = """
import runpy, sys
if "data=image_folder" not in sys.argv:
    sys.path.append("scripts")
    import benchmark, siamese.run
    siamese.run.load = lambda data, seed: benchmark.random_images()
sys.argv[0] = "train.py"
runpy.run_path("train.py", run_name="__main__")
"""
# The peak of a process includes what its parent held when it was started, so a small one starts it.
STARTS = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak_bytes(*arguments: str) -> float:
    """Peak resident bytes of ``python ARGUMENTS`` in the project's folder."""
    command = [sys.executable, "-c", STARTS, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def memory(setup: Setup) -> list[dict[str, Any]]:
    """Peak memory of a whole train.py run on 50,000 images, less that of importing torch and Lightning."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            few = ("device=cpu", "trainer.limit_train_batches=3", f"hydra.run.dir={folder}/run")
            return peak_bytes("-c", TRAINS, *setup.words(*few))

    samples = interleaved({"imports": partial(peak_bytes, "-c", IMPORTS), "train": run}, setup.repeats)
    more = [b - a for a, b in zip(samples["imports"], samples["train"], strict=True)]
    return [result("peak of train.py beyond importing torch and Lightning", "bytes", more, "<", 1e9, **samples)]


def clusters(
    images: int, dimensions: int = 128, classes: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """What is measured on: float32 embeddings [images, dimensions] around one centre a class, their
    labels, one triplet an image, and the names of the classes."""
    random, place = np.random.default_rng(0), np.arange(images)
    centres = 0.5 * random.normal(size=(classes, dimensions))
    embeddings = (centres[place % classes] + random.normal(size=(images, dimensions))).astype(np.float32)
    triplets = np.stack([place, (place + classes) % images, (place + 1) % images], axis=1)
    return embeddings, place % classes, triplets, [str(label) for label in range(classes)]


def seconds_to_measure(images: int) -> float:
    """Seconds of every measure on that many embedded images of 128 dimensions; no figures."""
    embedded = clusters(images)
    began = time.perf_counter()
    measure(*embedded)
    return time.perf_counter() - began


# A process that holds the embeddings, and one that goes on to measure them.
HOLDS = "import sys; sys.path.append('scripts'); import benchmark; benchmark.clusters(int(sys.argv[1]))"
MEASURES = HOLDS.replace("clusters", "seconds_to_measure")


def evaluate(setup: Setup) -> list[dict[str, Any]]:
    """Everything that is measured on an embedding: how long it takes, how much memory, how both grow."""
    found = []
    for images in (1_000, 10_000, 50_000):
        repeats, goal = (1, False) if images > 10_000 else (setup.repeats, images == 10_000)
        seconds = interleaved({"measure": partial(seconds_to_measure, images)}, repeats)["measure"]
        sides = {"holds": partial(peak_bytes, "-c", HOLDS, str(images))}
        sides["measures"] = partial(peak_bytes, "-c", MEASURES, str(images))
        peaks = {name: [side() for _ in range(min(repeats, 3))] for name, side in sides.items()}
        more = [b - a for a, b in zip(peaks["holds"], peaks["measures"], strict=True)]
        what = f"every measure on {images:,} images of 128 dimensions"
        found.append(result(what, "s", seconds, "<", 20.0 if goal else None))
        found.append(result(f"peak of {what}, beyond holding them", "bytes", more, "<", 1e9 if goal else None, **peaks))
    return found


def startup(setup: Setup) -> list[dict[str, Any]]:
    """The commands that train nothing: train.py --cfg job, and --help."""

    def run(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    found = interleaved({"--cfg job": partial(run, "--cfg", "job"), "--help": partial(run, "--help")}, setup.repeats)
    targets = {"--cfg job": 0.8, "--help": None}
    return [result(f"python train.py {name}", "s", found[name], "<", targets[name]) for name in found]


def models(setup: Setup) -> list[dict[str, Any]]:
    """Every model from random weights: its parameters, what its backbone ends with, and the forward time."""
    images = torch.randint(256, (BATCH, 3, 32, 32), dtype=torch.uint8)
    sides: dict[str, Callable[[], float]] = {}
    for file in sorted((ROOT / "conf" / "model").glob("*.yaml")):
        config = setup.config(f"model={file.stem}", "device=cpu")
        net = make("model", config.model, mean=[0.5] * 3, std=[0.5] * 3, image_size=32).eval()
        net = net.to(memory_format=torch.channels_last)
        ends = "×".join(map(str, net.backbone(torch.zeros(1, 3, 32, 32)).shape[1:]))
        parameters = sum(p.numel() for p in net.parameters())
        sides[f"{file.stem}: {parameters:,} parameters, {ends}"] = partial(seconds_forward, net, images)
    samples = interleaved(sides, setup.repeats)
    return [result(f"{what}; forward of {BATCH} images", "s", found, "<", None) for what, found in samples.items()]


@torch.inference_mode()
def seconds_forward(net: nn.Module, images: Tensor) -> float:
    """Seconds to embed ``images`` once."""
    began = time.perf_counter()
    net(images)
    return time.perf_counter() - began


MEASUREMENTS: dict[str, tuple[Callable[[Setup], list[dict[str, Any]]], str]] = {
    "step": (partial(against_notebook, "cpu", 1.25), "a float32 training step of VGG11 against the notebook's"),
    "step_bf16": (partial(against_notebook, "cpu_bf16", 2.2), "a bf16-mixed step against the notebook's float32 one"),
    "epoch": (epoch, "an epoch through train.py's path against a bare loop, both with validation"),
    "losses": (losses, "losses over 1,024 embeddings against pytorch-metric-learning's; KoLeo's memory"),
    "memory": (memory, "peak of a whole train.py run on 50,000 images beyond its imports"),
    "evaluate": (evaluate, "every measure on 1,000, 10,000 and 50,000 embedded images: time and peak"),
    "models": (models, "parameters, feature map and forward time of every model for 32x32 images"),
    "accumulation": (accumulation, "windows of 1 to 16 micro-batches: exact and one full batch against naive"),
    "large_window": (large_window, "peak of a train.py run with windows of 4,096 triplets"),
    "startup": (startup, "python train.py --cfg job, and --help"),
}

JSON_SHAPE = """FILE gets schema_version, command, repeats, machine and, by name, the measurements, each a list of
{what, unit, median, low, high, sense, target, met, values, samples}."""


def machine() -> dict[str, Any]:
    """What the numbers were measured on; ``load`` is the mean number of busy processes in the last minute."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.+)", info)
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


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
    lines = [f"  {name:12} {what}" for name, (_, what) in MEASUREMENTS.items()]
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
