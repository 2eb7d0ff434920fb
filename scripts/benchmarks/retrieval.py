"""Measuring at the field's scale: thousands of classes, beside pytorch-metric-learning's AccuracyCalculator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import ROOT
from benchmarks.setup import Setup
from benchmarks.timing import paired_ratios, result

# Each side in a process of its own: the seconds that it takes and by how much its peak rises, with the same arrays in
# memory, imports done and as many threads.
PROGRAM = """
import json, resource, sys, time
sys.path.append("scripts")
import torch
from benchmarks.retrieval import SIDES, clusters

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

side, images, classes, threads, queries = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(threads)
run = SIDES[side](threads)
arrays = clusters(images, classes)
run(*(array[:300] for array in arrays), 300)  # what is loaded and compiled at the first call
before, began = peak(), time.perf_counter()
run(*arrays, queries)
print(json.dumps([time.perf_counter() - began, peak() - before]))
"""


def clusters(images: int, classes: int) -> tuple[Any, Any]:
    """float32 embeddings [images, 128] of length 1 around a centre a class, and their classes."""
    import numpy as np

    random, labels = np.random.default_rng(0), np.arange(images) % classes
    embeddings = random.normal(size=(images, 128), scale=1.0).astype(np.float32)
    embeddings += (0.5 * random.normal(size=(classes, 128))).astype(np.float32)[labels]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, labels


def shared(threads: int) -> Any:
    """The measures that both have: precision@1, R-precision, MAP@R, MRR, NMI and AMI, as ``measure`` comes by them."""
    from siamese.evaluation.blocks import rows
    from siamese.evaluation.probes import clustering
    from siamese.evaluation.retrieval import all_against_all, rank

    def run(embeddings: Any, labels: Any, queries: int) -> None:
        found = rows(embeddings, labels)
        rank(all_against_all(found)).values()
        clustering(found)

    return run


def ranks(threads: int) -> Any:
    """Retrieval alone."""
    from siamese.evaluation.retrieval import retrieval

    return lambda embeddings, labels, queries: retrieval(embeddings, labels)


def some(threads: int) -> Any:
    """Retrieval of some queries, evenly spaced, among all images."""
    import dataclasses

    import numpy as np

    from siamese.evaluation.blocks import rows
    from siamese.evaluation.retrieval import all_against_all, rank

    def run(embeddings: Any, labels: Any, queries: int) -> None:
        search = all_against_all(rows(embeddings, labels))
        chosen = np.linspace(0, len(labels) - 1, queries).astype(int)
        rank(dataclasses.replace(search, queries=chosen)).values()

    return run


def everything(threads: int) -> Any:
    """Every measure, as a run's end has it, with intervals over classes."""
    import numpy as np

    from siamese.config.schema import Evaluation
    from siamese.evaluation.measure import How, measure

    settings = Evaluation()
    how = How(
        most_classes=settings.most_classes,
        most_images=settings.most_images,
        resamples=settings.resamples,
        over_classes=True,
    )

    def run(embeddings: Any, labels: Any, queries: int) -> None:
        classes, place = int(labels.max()) + 1, np.arange(len(labels))
        triplets = np.stack([place, (place + classes) % len(place), (place + 1) % len(place)], axis=1)
        measure(embeddings, labels, triplets, classes, how)

    return run


def theirs(threads: int, *names: str) -> Any:
    """AccuracyCalculator with faiss-cpu, which searches as many neighbours as the largest class has images."""
    import faiss
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    faiss.omp_set_num_threads(threads)
    all_names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_reciprocal_rank", *names)
    calculator = AccuracyCalculator(include=all_names, k="max_bin_count", device=torch.device("cpu"))

    def run(embeddings: Any, labels: Any, queries: int) -> None:
        calculator.get_accuracy(torch.from_numpy(embeddings), torch.from_numpy(labels))

    return run


SIDES = {
    "shared": shared,
    "ranks": ranks,
    "some": some,
    "everything": everything,
    "theirs": theirs,
    "theirs with clusters": lambda threads: theirs(threads, "NMI", "AMI"),
}


def taken(side: str, images: int, classes: int, threads: int, queries: int = 0) -> list[float]:
    """Seconds and bytes of one turn of ``side``."""
    words = [sys.executable, "-c", PROGRAM, side, *map(str, (images, classes, threads, queries or images))]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def at_scale(setup: Setup) -> list[dict[str, Any]]:
    """The field's sizes: 20,000 images of 1,000 classes on one thread, Stanford Online Products', a million."""
    found = []
    sides = ("shared", "everything", "theirs with clusters")
    turns = [{side: taken(side, 20_000, 1_000, 1) for side in sides} for _ in range(setup.repeats)]
    what = "on 20,000 images of 1,000 classes, one thread"
    for side, name, most in (("shared", "the measures that both have", 1.0), ("everything", "every measure", 2.0)):
        pairs = {one: [turn[one][0] for turn in turns] for one in (side, "theirs with clusters")}
        ratio = paired_ratios(pairs[side], pairs["theirs with clusters"])
        found.append(result(f"seconds of {name} {what}, of AccuracyCalculator's", "×", ratio, "≤", most, **pairs))
    peaks = {one: [turn[one][1] for turn in turns] for one in sides}
    ratio = paired_ratios(peaks["shared"], peaks["theirs with clusters"])
    found.append(result(f"peak of the measures that both have {what}", "×", ratio, "≤", 1.0, **peaks))
    what = "on 60,502 images of 11,316 classes, two threads"
    turns = [{side: taken(side, 60_502, 11_316, 2) for side in ("ranks", "everything", "theirs")} for _ in range(1)]
    pairs = {side: [turn[side][0] for turn in turns] for side in ("ranks", "theirs")}
    ratio = paired_ratios(pairs["ranks"], pairs["theirs"])
    found.append(result(f"seconds of retrieval {what}, of AccuracyCalculator's", "×", ratio, "≤", 1.0, **pairs))
    seconds, peak = ([turn["everything"][i] for turn in turns] for i in (0, 1))
    found.append(result(f"every measure {what}", "s", seconds, "≤", 120.0))
    found.append(result(f"peak of every measure {what}, beyond holding them", "bytes", peak, "≤", 2e9))
    seconds, peak = ([one] for one in taken("some", 1_000_000, 50_000, 2, queries=20_000))
    found.append(result("retrieval of 20,000 queries among 1,000,000 images, two threads", "s", seconds, "≤", None))
    found.append(result("peak of the same, beyond holding them", "bytes", peak, "≤", None))
    return found
