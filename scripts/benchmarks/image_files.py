"""Collections of image files: how fast they are decoded, and training on one that is larger than memory should be."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks import ROOT
from benchmarks.setup import Setup
from benchmarks.timing import IMPORTS, interleaved, paired_ratios, peak_bytes, result
from siamese.data.files import Decoding, collection
from siamese.data.files.cache import decoded

CLASSES, PICTURES, WORKERS, SIDE = 10, 40, 2, 224
LARGE = int(os.environ.get("SIAMESE_BENCHMARK_IMAGES", 100_000))


def decoding(setup: Setup) -> list[dict[str, Any]]:
    """Photographs of 500x375 pixels brought to 224x224, against torchvision's ImageFolder with as many workers."""
    with pictures(2_000, (500, 375)) as root:

        def ours() -> float:
            files = sorted(root.rglob("*.jpg"))
            with tempfile.TemporaryDirectory() as cache:
                how = Decoding(SIDE, "crop", [255, 255, 255], "refuse", cache, WORKERS)
                paths = [file.relative_to(root).as_posix() for file in files]
                began = time.perf_counter()
                decoded(collection(root, paths, [0] * len(paths), ["all"], how))
                return len(paths) / (time.perf_counter() - began)

        def torchvisions() -> float:
            resize = v2.Resize(SIDE, v2.InterpolationMode.BICUBIC)
            data = ImageFolder(root, v2.Compose([resize, v2.CenterCrop(SIDE), v2.PILToTensor()]))
            began = time.perf_counter()
            count = sum(len(images) for images, _ in DataLoader(data, 64, num_workers=WORKERS))
            return count / (time.perf_counter() - began)

        samples = interleaved({"ours": ours, "torchvision's": torchvisions}, setup.repeats)
    ratios = paired_ratios(samples["ours"], samples["torchvision's"])
    return [result("images decoded a second, of torchvision's ImageFolder", "×", ratios, "≥", 1.5, **samples)]


def large_collection(setup: Setup) -> list[dict[str, Any]]:
    """train.py on so many images of 224x224 that are decoded already: its start, its peak, and how long it waits."""
    with pictures(LARGE, (SIDE, SIDE)) as root, tempfile.TemporaryDirectory() as work:
        words = [
            *("data=image_folder", f"data.root={root}", f"data.cache_dir={work}/cache", f"data.image_size={SIDE}"),
            *("data.triplets=resampled", "data.batch_size=8", "data.eval_batch_size=32", "data.device_budget=0.01"),
            *("data.val_fraction=0.002", "data.test_fraction=0.002", "model.pretrained=false", "device=cpu"),
            *("trainer.max_epochs=1", f"trainer.limit_train_batches={setup.epoch_steps}"),
            *("figures.draw=false", "callbacks.progress_bar=false"),
        ]
        small = ("model=conv_small", "model.width=4")
        _run(*words, *small, f"hydra.run.dir={work}/first")  # decodes
        start = _run(*words, *small, f"hydra.run.dir={work}/small")["start"]
        waited = _run(*words, "model=resnet18_native", f"hydra.run.dir={work}/resnet18")["waited"]
        imports = peak_bytes("-c", IMPORTS)
        each = ("batches=balanced", "loss=supcon", "data.batch_size=48", "trainer.limit_train_batches=1.0")
        epoch = _run(*words, *small, *each, f"hydra.run.dir={work}/epoch")
    what = f"{LARGE:,} images of {SIDE}x{SIDE}"
    return [
        result(f"{what}: to the first step of a run", "s", [start], "<", 10),
        result(f"{what}: waiting for pixels, of a ResNet-18's steps", "×", [waited], "<", 0.03),
        result(f"{what}: an epoch over all of them, of a small network", "s", [epoch["seconds"]], "<", None),
        result(f"{what}: waiting for pixels, of that epoch", "×", [epoch["waited"]], "<", None),
        result(
            f"{what}: peak of that run, beyond importing torch and Lightning",
            "bytes",
            [epoch["peak"] - imports],
            "<",
            2e9,
        ),
    ]


def _run(*words: str) -> dict[str, float]:
    """What a run of train.py said of itself: see WAITS."""
    done = subprocess.run(
        [sys.executable, "-c", WAITS, *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    last: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return last


# train.py, which says last how long it took to its first step, how long its steps took from then on, what share of them
# it waited for pixels, and its peak.
WAITS = """
import json, resource, runpy, sys, time
began = time.perf_counter()
sys.argv[0] = "train.py"
from siamese.data import gather
from siamese.data.loader import EpochLoader
told = {"start": None, "waited": 0.0, "all": 0.0}
iterate = gather.Ahead.__iter__

def noting(self):
    batches, training = iterate(self), isinstance(self.loader, EpochLoader)
    last = time.perf_counter()
    while True:
        asked = time.perf_counter()
        batch = next(batches, None)
        now = time.perf_counter()
        if training and told["start"] is None:
            told["start"] = now - began
        elif training:
            told["waited"] += now - asked
            told["all"] += now - last
        last = now
        if batch is None:
            return
        yield batch

gather.Ahead.__iter__ = noting
runpy.run_path("train.py", run_name="__main__")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
waited = told["waited"] / told["all"]
print(json.dumps({"start": told["start"], "seconds": told["all"], "waited": waited, "peak": peak}))
"""


@contextmanager
def pictures(count: int, size: tuple[int, int]) -> Iterator[Path]:
    """A folder of ``count`` JPEG files in ten classes, no two with the same pixels: a few pictures, each with many
    quantisation tables."""
    folder = Path(tempfile.mkdtemp(prefix="siamese-benchmark-"))
    try:
        random = torch.Generator().manual_seed(0)
        made = [_picture(size, random) for _ in range(PICTURES)]
        for number in range(count):
            target = folder / f"class{number % CLASSES}" / f"{number:06d}.jpg"
            target.parent.mkdir(exist_ok=True)
            picture = bytearray(made[number % PICTURES])
            place, value = divmod(number // PICTURES, 250)
            picture[picture.index(b"\xff\xdb") + 5 + 1 + place] = 1 + value  # of the table of brightness
            target.write_bytes(picture)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _picture(size: tuple[int, int], random: torch.Generator) -> bytes:
    width, height = size
    coarse = torch.rand(1, 3, 24, 32, generator=random)
    fine = torch.rand(1, 3, height, width, generator=random) * 0.1
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic") * 0.9 + fine
    pixels = (smooth[0].clamp(0, 1) * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=85)
    return file.getvalue()
