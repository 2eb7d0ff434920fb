"""Run directories, and every way in which one of their files can be damaged."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from support.processes import Cli

TINY = (
    "device=cpu data=digits data.images_per_class=20 model=conv_small model.width=4 trainer.max_epochs=2 "
    "figures.draw=false callbacks.checkpoint_every=1"
).split()
SPACES = 5 * 2**20
DEEP, ABYSS = 5000, 10**6  # the second is where libyaml's loader overflows the stack
DIGITS = 401  # of a number that no float holds

FOLDER, OTHER = "folder", "other"  # the file of another run is whole in itself

# What takes the place of a file, given what it held and what the same file of another run holds.
DAMAGES: dict[str, Callable[[bytes, bytes], bytes | None]] = {
    "missing": lambda own, other: None,
    "empty": lambda own, other: b"",
    "torn": lambda own, other: own[: len(own) // 2],
    "spaces": lambda own, other: b" " * SPACES,
    "nested": lambda own, other: b"[" * DEEP + b"]" * DEEP,
    "nested blocks": lambda own, other: b"- " * ABYSS + b"1",
    "latin-1": lambda own, other: "café\n".encode("latin-1") * 20,
    OTHER: lambda own, other: other,
}


def train_two(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run, with another one of another seed beside it, trained once for all tests of this process."""
    folder = tmp_path_factory.getbasetemp() / "trained"
    for name, seed in ((OTHER, 1), ("run", 0)):
        if not (folder / name).exists():
            train_cli(*TINY, f"seed={seed}", f"hydra.run.dir={folder / name}")
    return folder / "run"


def copy(run: Path, target: Path) -> Path:
    """``run`` once more, without its lock; files are shared until they are replaced."""
    return Path(shutil.copytree(run, target, copy_function=os.link, ignore=shutil.ignore_patterns(".lock")))


def replace(path: Path, content: bytes | None) -> None:
    """Let ``path`` hold ``content``, or be missing; a file that shares its content with others is left to them."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def damage(path: Path, how: str, other: Path) -> None:
    """Damage the file ``path`` as ``how`` names; ``other`` is the same file of another run."""
    own = path.read_bytes()
    if how == FOLDER:
        path.unlink()
        path.mkdir()
    else:
        replace(path, DAMAGES[how](own, other.read_bytes()))


def rewrite(path: Path, dotted: str, value: Any) -> None:
    """Set one entry of a JSON or YAML file, ``dotted`` by its keys; a key may hold a slash."""
    content = json.loads(path.read_text()) if path.suffix == ".json" else yaml.safe_load(path.read_text())
    *groups, last = dotted.split(".")
    node = content
    for group in groups:
        node = node[group]
    node[last] = value
    replace(path, (json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content)).encode())


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Save the checkpoint ``path`` once more, changed."""
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    content = io.BytesIO()
    torch.save(checkpoint, content)
    replace(path, content.getvalue())


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


def whole(digits: int = DIGITS) -> int:
    return 10 ** (digits - 1)


# Entries of another type, or of a size that nothing can be calculated with, by file.
ODD: dict[str, list[tuple[str, Any]]] = {
    "manifest.json": [
        ("schema_version", "1"),
        ("schema_version", 99),
        ("run_id", 5),
        ("data", "digits"),
        ("split", []),
        ("git", "abc"),
        ("argv", "train.py"),
        ("resumes", {}),
        ("seed", whole()),
        ("seed", math.nan),
        ("seed", nested(60)),
    ],
    "status.json": [("state", ["completed"]), ("state", "done"), ("error", {}), ("pid", "12"), ("pid", whole())],
    "config.resolved.yaml": [
        ("data.batch_size", [64, 64]),
        ("data.batch_size", "many"),
        ("data.batch_size", whole()),
        ("trainer", 5),
        ("seed", {"a": 1}),
        ("seed", nested(60)),
    ],
    "summary.json": [
        ("test/auc", 0.9),
        ("test/auc", []),
        ("test/auc.value", "0.9"),
        ("test/auc.value", True),
        ("test/auc.value", 1e308),
        ("test/auc.value", 1e-300),
        ("test/auc.value", math.nan),
        ("test/auc.value", math.inf),
        ("test/auc.value", whole()),
        ("test/auc.epoch", "2"),
        ("test/auc.direction", ["max"]),
        ("test/auc.reason", 5),
    ],
}


def row(column: str, value: str) -> Callable[[Path], None]:
    """Damage of a metrics.csv: another value in its last row."""

    def change(path: Path) -> None:
        *lines, last = path.read_text().splitlines()
        place = lines[0].split(",").index(column)
        cells = last.split(",")
        cells[place] = value
        replace(path, "".join(f"{line}\n" for line in [*lines, ",".join(cells)]).encode())

    return change


def line(text: str) -> Callable[[Path], None]:
    """Damage of a metrics.csv: one more line."""
    return lambda path: replace(path, path.read_bytes() + f"{text}\n".encode())


# By the words that are to say what is wrong with a metrics.csv.
ODD_ROWS: dict[str, Callable[[Path], None]] = {
    "epoch: expected a whole number, found ''": row("epoch", ""),
    "epoch: expected a whole number, found 'two'": row("epoch", "two"),
    "epoch: expected a whole number, found '1000": row("epoch", str(whole())),
    "epoch 1 after epoch 1": row("epoch", "1"),
    "step: expected a whole number, found '1.5'": row("step", "1.5"),
    "val/auc: expected a number up to 1e+100 in size, found 'nan'": row("val/auc", "nan"),
    "val/auc: expected a number up to 1e+100 in size, found '1e308'": row("val/auc", "1e308"),
    "val/auc: expected a number up to 1e+100 in size, found '1000": row("val/auc", str(whole())),
    "val/auc: expected a number up to 1e+100 in size, found 'good'": row("val/auc", "good"),
    "field larger than field limit": row("val/auc", "1" * 200_000),
    "has 2 fields; expected": line("3,9"),
}


def entry(key: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Callable[[Path], None]:
    """Damage of arrays: another array ``key``, or none."""

    def damaged(path: Path) -> None:
        with np.load(path) as stored:
            arrays = dict(stored)
        changed = change(arrays.pop(key))
        content = io.BytesIO()
        np.savez(content, **(arrays if changed is None else {**arrays, key: changed}))  # type: ignore[arg-type]
        replace(path, content.getvalue())

    return damaged


def compressed(path: Path) -> None:
    """A file that claims more than it holds, as one that fills the memory would."""
    content = io.BytesIO()
    np.savez_compressed(content, embeddings=np.zeros((1000, 1000), np.float32))
    replace(path, content.getvalue())


# A file of arrays, its damage, and the words that are to say what is wrong.
ODD_ARRAYS: list[tuple[str, Callable[[Path], None], str]] = [
    ("samples", entry("images", lambda a: None), "images is missing"),
    ("samples", entry("images", lambda a: a.astype(np.float32)), "images: expected images of 4 dimensions"),
    ("samples", entry("labels", lambda a: a + 10), "labels: expected labels of 10 classes, found 10 to 19"),
    ("samples", entry("labels", lambda a: a.astype(str)), "labels: expected labels of 1 dimensions"),
    ("samples", entry("triplet_distances", lambda a: a[:, :1]), "expected a dimension of 2, found 1"),
    ("test", entry("labels", lambda a: a - 2), "labels: expected labels of 10 classes, found -2"),
    ("test", entry("class_names", lambda a: a.astype(object)), "could not be read as arrays"),
    ("test", compressed, "could not be read as arrays (4,000"),
    ("roc_test", entry("fpr", lambda a: a[:-1]), "expected a dimension of"),
    ("roc_test", entry("tpr", lambda a: a * np.nan), "tpr: expected numbers up to 1e+100"),
    ("roc_test", entry("tpr", lambda a: a + 1e308), "tpr: expected numbers up to 1e+100"),
    ("roc_test", entry("tpr", lambda a: a + np.inf), "tpr: expected numbers up to 1e+100"),
    ("histogram_test", entry("edges", lambda a: a[1:]), "expected a dimension of"),
    ("distances_test", entry("matrix", lambda a: a[:3, :3]), "distances_test.npz: is of 3; expected 10"),
    ("distances_test", entry("matrix", lambda a: a[0]), "matrix: expected gaps of 2 dimensions"),
    ("projection_test", entry("points", lambda a: a[:3]), "projection_test.npz: positions: expected a dimension of 3"),
    ("gallery_test", entry("neighbour_labels", lambda a: a + 10), "gallery_test.npz: expected labels of 10 classes"),
    ("gallery_test", entry("cosines", lambda a: a[:, :1]), "expected a dimension of"),
    ("hardest_test", entry("labels", lambda a: a + 10**7), "labels: expected labels of 1,000,000 classes"),
]
