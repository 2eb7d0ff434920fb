"""Run directories by the version-1 format, without training: for tests of what reads them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()
DIRECTIONS = {"loss": "min", "koleo": "min", "intra_distance": "min", "eer": "min"}

CONFIG: dict[str, Any] = {
    "name": "image_folder_conv_small_triplet_koleo",
    "seed": 0,
    "resume": None,
    "data": {
        "source": "image_folder",
        "root": "/data/cifar10",
        "download": False,
        "image_size": 32,
        "cache_dir": None,
        "decode_workers": 2,
        "images_per_class": None,
        "split": "by_image",
        "val_fraction": 0.05,
        "test_fraction": 0.1,
        "folds": 5,
        "fold": 0,
        "triplets": "resampled",
        "negatives_per_class": None,
        "batch_size": 64,
        "eval_batch_size": 256,
        "mean": None,
        "std": None,
        "augment": {"crop_padding": 4, "flip": True},
    },
    "model": {"_target_": "siamese.models.conv_small", "embedding_dim": 128, "width": 16, "weights": None},
    "loss": {
        "_target_": "siamese.losses.TripletLoss",
        "margin": 0.4,
        "koleo_weight": 0.1,
        "koleo_over": "all",
        "koleo_neighbours": 1,
    },
    "accumulation": {"mode": "naive", "rescale_last_window": True},
    "optimizer": {
        "_target_": "torch.optim.AdamW",
        "lr": 0.002,
        "betas": [0.9, 0.999],
        "eps": 1e-08,
        "weight_decay": 0.01,
        "fused": True,
    },
    "scheduler": {
        "_target_": "torch.optim.lr_scheduler.OneCycleLR",
        "interval": "step",
        "max_lr": 0.002,
        "total_steps": None,
        "pct_start": 0.3,
        "anneal_strategy": "cos",
        "cycle_momentum": False,
        "div_factor": 25.0,
        "final_div_factor": 10000.0,
    },
    "device": {"accelerator": "cpu", "devices": 1, "strategy": "auto", "precision": "32-true", "channels_last": True},
    "trainer": {
        "max_epochs": 15,
        "accumulate_grad_batches": 1,
        "gradient_clip_val": None,
        "gradient_clip_algorithm": "norm",
        "limit_train_batches": 1.0,
        "deterministic": False,
        "detect_anomaly": False,
    },
    "callbacks": {
        "checkpoint_every": None,
        "checkpoint_every_steps": None,
        "progress_bar": True,
        "heartbeat_seconds": 10.0,
        "collapse_cosine": 0.99,
    },
    "evaluation": {"koleo_embeddings": 192},
    "logger": {"_target_": None},
}


def entry(metric: str, value: float | None, **more: Any) -> dict[str, Any]:
    """An entry of summary.json."""
    part, _, name = metric.partition("/")
    split = {"val": "validation"}.get(part, part)
    direction = DIRECTIONS.get(name, "max")
    return {
        "value": value,
        "split": split,
        "epoch": 15,
        "direction": direction,
        "batch_dependent": metric == "train/koleo",
    } | more


def write_run(
    path: Path,
    settings: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    *,
    state: str = "completed",
    rows: list[dict[str, Any]] | None = None,
    manifest: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
) -> Path:
    """Write one run directory: ``settings`` by dotted key over the configuration above, ``metrics`` for its summary."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in (settings or {}).items():
        node = config
        *groups, last = key.split(".")
        for group in groups:
            node = node.setdefault(group, {})
        node[last] = value
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.resolved.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    facts = {
        "schema_version": 1,
        "run_id": path.name,
        "name": config["name"],
        "seed": config["seed"],
        "started": "2026-01-01T00:00:00+0000",
        "argv": ["train.py", *(f"{k}={v}" for k, v in (settings or {}).items())],
        "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
        "python": "3.11.7",
        "host": "machine",
        "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
        "device": {"type": "cpu", "name": None, "devices": 1, "precision": "32-true", "threads": 2},
        "data": {"source": "image_folder", "images": 600, "classes": CLASSES, "fingerprint": "b99eebc93ff6fe2f"},
        "split": {"train": 400, "validation": 100, "test": 100, "fingerprint": f"split{config['seed']}"},
        "resumes": [],
    }
    (path / "manifest.json").write_text(json.dumps(facts | dict(manifest or {})))
    heartbeat = {"state": state, "pid": 1, "host": "machine", "heartbeat": "2026-01-01T01:00:00+0000", "error": None}
    (path / "status.json").write_text(json.dumps(heartbeat | dict(status or {})))
    if rows:
        with open(path / "metrics.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if state == "completed":
        found = metrics if metrics is not None else {"test/auc": 0.9}
        (path / "summary.json").write_text(json.dumps({m: entry(m, v) for m, v in found.items()}))
    for name, values in (arrays or {}).items():
        (path / "arrays").mkdir(exist_ok=True)
        np.savez(path / "arrays" / f"{name}.npz", **values)  # type: ignore[arg-type]
    return path


def learned(seed: int, quality: float, epochs: int = 15, batch: int = 128, n: int = 25_000) -> list[dict[str, Any]]:
    """Rows of metrics.csv of a run that ends near an AUC of ``quality``."""
    random = np.random.default_rng([seed, round(1e4 * quality)])
    rows = []
    for epoch in range(epochs + 1):
        progress = 1 - np.exp(-epoch / 3.0)
        auc = 0.58 + (quality - 0.58) * progress + random.normal(0, 0.006) * (epoch > 0)
        loss = 0.4 - 0.32 * progress * quality + random.normal(0, 0.004)
        step = epoch * (n // batch)
        shared = {"epoch": epoch, "step": step, "images": step * batch * 3, "lr": 0.0005}
        rows.append(
            shared | {"train/loss": float(loss) if epoch else "", "val/loss": float(loss + 0.02), "val/auc": float(auc)}
        )
    return rows


def arrays_of(seed: int, spread: float, images: int = 600, dimensions: int = 32, part: str = "test") -> dict[str, Any]:
    """Every array file of a run whose classes are Gaussian clouds of width ``spread`` on the sphere; the data (labels,
    pictures, queries) are those of no seed in particular. What takes pairs of images takes the first 600."""
    data = np.random.default_rng(1)
    classes = len(CLASSES)
    every_label, paired = data.permutation(np.arange(images) % classes), min(images, 600)
    labels = every_label[:paired]
    shapes = data.integers(40, 215, (classes, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    pictures = (shapes[labels] + data.normal(0, 18, (paired, 3, 32, 32))).clip(0, 255).astype(np.uint8)

    random = np.random.default_rng([seed, round(1e4 * spread)])
    centres = np.random.default_rng(seed).normal(size=(classes, dimensions))
    z = centres[every_label] + spread * random.normal(size=(images, dimensions))
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    cosines = z[:paired] @ z[:paired].T
    members = [labels == k for k in range(classes)]
    matrix = np.array([[1 - cosines[np.ix_(a, b)].mean() for b in members] for a in members])
    upper = np.triu_indices(paired, 1)
    scores, positive = cosines[upper], (labels[:, None] == labels)[upper]
    order = np.argsort(-scores)
    tpr, fpr = (np.cumsum(hit[order]) / hit.sum() for hit in (positive, ~positive))
    queries = np.array([int(np.flatnonzero(m)[0]) for m in members])
    nearest = np.argsort(-(cosines - 2 * np.eye(paired, dtype=np.float32)), 1)[queries, :8]
    every = slice(None, None, max(1, len(fpr) // 2000))
    ids = np.array([f"image/{i:04d}" for i in range(images)])
    return {
        part: {"embeddings": z, "labels": every_label, "ids": ids, "class_names": np.array(CLASSES)},
        f"roc_{part}": {"fpr": np.r_[0, fpr[every], 1], "tpr": np.r_[0, tpr[every], 1]},
        f"distances_{part}": {"matrix": matrix},
        f"gallery_{part}": {
            "query_ids": ids[queries],
            "query_labels": labels[queries],
            "query_images": pictures[queries],
            "neighbour_ids": ids[nearest],
            "neighbour_labels": labels[nearest],
            "neighbour_images": pictures[nearest],
            "cosines": cosines[queries[:, None], nearest],
        },
    }


def study(root: Path, seeds: int = 5, points: Any = ((16, 8), (32, 4), (64, 2), (128, 1)), **sizes: int) -> Path:
    """A whole sweep of batch size × window at one effective batch, with and without KoLeo, as if it had been trained:
    small micro-batches cost KoLeo a little, and spread embeddings more."""
    random = np.random.default_rng(0)
    for batch, window in points:
        for weight in (0.0, 0.1):
            for seed in range(seeds):
                cost = 0.004 * np.log2(window) * (weight > 0)
                auc = 0.935 + 0.004 * np.sin(2.4 * seed) - cost + random.normal(0, 0.0012)
                rank = (24 + 9 * (weight > 0) - 6 * cost / 0.012) * np.exp(random.normal(0, 0.02))
                metrics = {
                    "test/auc": auc,
                    "test/recall_at_1": auc - 0.17 + random.normal(0, 0.004),
                    "test/map_at_r": auc - 0.4 + random.normal(0, 0.008),
                    "test/effective_rank": rank,
                    "val/auc": auc + random.normal(0, 0.002),
                    "train/koleo": 0.8 - 0.1 * np.log2(batch) + random.normal(0, 0.01),
                }
                write_run(
                    root / f"batch{batch}_window{window}_koleo{weight}_seed{seed}",
                    {"data.batch_size": batch, "trainer.accumulate_grad_batches": window, "loss.koleo_weight": weight}
                    | {"seed": seed},
                    {name: float(value) for name, value in metrics.items()},
                    rows=learned(seed, auc, batch=batch * window),
                    arrays=arrays_of(seed, 0.9 + 25 * cost - 0.2 * (weight > 0), **sizes),
                )
    return root
