"""Every measure of an embedding: how long it takes, how much memory, and how both grow."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks.setup import Setup
from benchmarks.timing import interleaved, now, peak_bytes, result
from siamese.evaluation.measure import How, measure


def clusters(images: int, dimensions: int = 128, classes: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """What is measured on: float32 embeddings [images, dimensions] around one centre a class, their
    labels, one triplet an image, and the number of classes."""
    random, place = np.random.default_rng(0), np.arange(images)
    centres = 0.5 * random.normal(size=(classes, dimensions))
    embeddings = (centres[place % classes] + random.normal(size=(images, dimensions))).astype(np.float32)
    triplets = np.stack([place, (place + classes) % images, (place + 1) % images], axis=1)
    return embeddings, place % classes, triplets, classes


def seconds_to_measure(images: int, device: str = "cpu") -> float:
    """Seconds of every measure on that many embedded images of 128 dimensions, retrieval and pairs on ``device``; no
    figures."""
    embedded = clusters(images)
    began = now(device)
    measure(*embedded, How(device=device))
    return now(device) - began


# A process that holds the embeddings, and one that goes on to measure them.
HOLDS = """
import sys
sys.path.append("scripts")
from benchmarks.evaluation import clusters
clusters(int(sys.argv[1]))
"""
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
