"""A trained network in use: images embedded a second, and how long a search takes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import ROOT
from benchmarks.setup import Setup
from benchmarks.timing import interleaved, paired_ratios, result

BATCHES = (1, 64)
SECONDS = 1.0  # at least, that a side runs at a turn
SIZES = (10_000, 100_000, 1_000_000)
DIMENSIONS, QUERIES, K = 128, 20, 10


def serving(setup: Setup) -> list[dict[str, Any]]:
    """VGG11 on 32x32 images in torch and in onnxruntime; the ten nearest of as many vectors."""
    return [*_embedding(setup), *_search(setup)]


def _embedding(setup: Setup) -> list[dict[str, Any]]:
    from siamese import load_run
    from siamese.encoder import exported

    with tempfile.TemporaryDirectory() as folder:
        words = ("data=digits", "data.image_size=32", "model=vgg11", "model.pretrained=false", "device=cpu")
        few = ("trainer.max_epochs=1", "trainer.limit_train_batches=1", "figures.draw=false", f"hydra.run.dir={folder}")
        done = subprocess.run([sys.executable, "train.py", *words, *few], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        encoder = load_run(Path(folder))
        model = exported.as_onnx(encoder)
    run = exported.onnx_runner(model)
    found = []
    for count in BATCHES:
        pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
        sides = {
            "torch": lambda pixels=pixels: _a_second(lambda: encoder.embed_pixels(pixels), len(pixels)),
            "onnxruntime": lambda pixels=pixels: _a_second(lambda: run(pixels.numpy()), len(pixels)),
        }
        samples = interleaved(sides, setup.repeats)
        what = f"images embedded a second by VGG11, batches of {count}"
        found.append(result(f"{what}: torch", "images/s", samples["torch"], "≥", None))
        found.append(result(f"{what}: onnxruntime", "images/s", samples["onnxruntime"], "≥", None))
        ratios = paired_ratios(samples["onnxruntime"], samples["torch"])
        found.append(result(f"{what}: onnxruntime, of torch's", "×", ratios, "≥", None))
    return found


def _a_second(run: Callable[[], object], count: int) -> float:
    """How many images a second, where ``run`` embeds ``count``."""
    times, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < SECONDS:
        run()
        times += 1
    return times * count / taken


def _search(setup: Setup) -> list[dict[str, Any]]:
    from siamese.index.nearest import Approximate, nearest

    random, found = np.random.default_rng(0), []
    centres = random.normal(size=(1000, DIMENSIONS)).astype(np.float32)
    for size in SIZES:
        vectors = centres[random.integers(1000, size=size)]
        vectors += random.normal(size=(size, DIMENSIONS)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = vectors[random.integers(size, size=QUERIES)]
        for kind in ("flat", "ivfpq") if size == max(SIZES) else ("flat", "hnsw", "ivfpq"):
            approximate = None if kind == "flat" else Approximate.build(kind, [vectors])

            def one(vectors: np.ndarray = vectors, approximate: Any = approximate, queries: Any = queries) -> float:
                began = time.perf_counter()
                for query in queries:
                    nearest(query[None], [vectors], K, None, approximate)
                return 1000 * (time.perf_counter() - began) / len(queries)

            took = interleaved({"search": one}, setup.repeats)["search"]
            found.append(result(f"a search of the {K} nearest of {size:,} vectors, {kind}", "ms", took, "≤", None))
            if approximate is not None:
                exact, some = (nearest(queries, [vectors], K, None, how)[0] for how in (None, approximate))
                share = float(np.mean([len(np.intersect1d(*pair)) / K for pair in zip(exact, some, strict=True)]))
                found.append(result(f"recall of the same, {kind}", "×", [share], "≥", None))
    return found
