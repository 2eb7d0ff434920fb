"""Files of embeddings: arrays, a table of text, a table that tools for looking at embeddings read."""

from __future__ import annotations

import csv
import importlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese.errors import ConfigError, RunError, nearest
from siamese.runs.files import atomic

if TYPE_CHECKING:
    from siamese.commands.collected import Embeddings

NEIGHBOURS = 10


def check_out(out: Path) -> None:
    """Refuse, before what takes long, to write what cannot be written.

    Raises:
        ConfigError: for another format, a file that is there, and one that needs a package that is not installed.
    """
    if out.suffix not in WRITERS:
        formats = ", ".join(WRITERS)
        raise ConfigError(f"--out {out}: expected a name that ends in {formats}{nearest(out.suffix, WRITERS)}")
    check_free(out)
    if out.suffix == ".parquet":
        try:
            importlib.import_module("pyarrow")
        except ModuleNotFoundError:
            raise ConfigError(
                f"--out {out}: pyarrow is not installed; pip install -e '.[parquet]' installs it"
            ) from None


def check_free(out: Path) -> None:
    """Refuse a file that is there, or cannot be.

    Raises:
        ConfigError: naming it.
    """
    if out.exists():
        raise ConfigError(f"--out {out}: already exists; choose another name")
    if not (above := next(folder for folder in out.absolute().parents if folder.exists())).is_dir():
        raise ConfigError(f"--out {out}: {above} is no folder")
    if not os.access(above, os.W_OK):
        raise ConfigError(f"--out {out}: {above} cannot be written to")


def write(out: Path, embeddings: Embeddings) -> None:
    """Write ``embeddings`` to ``out``, whole or not at all.

    Raises:
        RunError: when it cannot be written.
    """
    WRITERS[out.suffix](out, embeddings)


def _npz(out: Path, found: Embeddings) -> None:
    """The arrays that scripts/evaluate.py --embeddings measures."""
    with atomic(out) as file:
        np.savez(
            file,
            embeddings=found.embeddings,
            ids=found.of.ids,
            labels=found.of.labels,
            class_names=np.array(found.of.class_names, dtype=str),
        )


def _csv(out: Path, found: Embeddings) -> None:
    text, of = io.StringIO(), found.of
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writerow(["id", "path", "label", "split", *(f"z{i}" for i in range(found.embeddings.shape[1]))])
    for i, row in enumerate(found.embeddings):
        path, label = _text(of.paths[i]), _label(found, i) or ""
        writer.writerow([of.ids[i], path, label, of.parts[i], *(f"{z:.9g}" for z in row)])
    with atomic(out) as file:
        file.write(text.getvalue().encode())


def _parquet(out: Path, found: Embeddings) -> None:
    """A row an image, as Embedding Atlas and FiftyOne take it: a neighbour is a row by its number."""
    pyarrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    x, y = _plane(out, found.embeddings).T
    table = pyarrow.table(
        {
            "id": [str(one) for one in found.of.ids],
            "path": [_text(path.absolute()) for path in found.of.paths],
            "thumbnail": pyarrow.array(found.thumbnails, pyarrow.binary()),
            "x": x,
            "y": y,
            "label": pyarrow.array([_label(found, i) for i in range(len(x))], pyarrow.string()),
            "split": pyarrow.array([part or None for part in found.of.parts.tolist()], pyarrow.string()),
            "neighbors": _neighbours(found),
            "embedding": pyarrow.array(list(found.embeddings), pyarrow.list_(pyarrow.float32())),
        }
    )
    with atomic(out) as file:
        parquet.write_table(table, file)


WRITERS: dict[str, Callable[[Path, Embeddings], None]] = {".npz": _npz, ".csv": _csv, ".parquet": _parquet}


def _label(found: Embeddings, i: int) -> str | None:
    label = int(found.of.labels[i])
    return found.of.class_names[label] if label >= 0 else None


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _plane(out: Path, embeddings: np.ndarray) -> np.ndarray:
    """The first two principal components, [N, 2]."""
    from siamese.evaluation.projection import fit_projection

    try:
        return fit_projection(embeddings)(embeddings)
    except ValueError as error:
        raise RunError(f"{out}: {error}; .npz and .csv need no plane") from None


def _neighbours(found: Embeddings) -> list[dict[str, Any]]:
    """Of each image the nearest others: their rows, and how far they are."""
    from siamese.encoder.gallery import Gallery

    count = len(found.embeddings)
    gallery = Gallery("these images", found.embeddings, found.of.ids, found.of.labels, found.of.class_names)
    near = gallery.search(found.embeddings, min(NEIGHBOURS + 1, count))
    rows = []
    for i, (positions, distances) in enumerate(zip(near.positions, near.distances, strict=True)):
        others = np.flatnonzero(positions != i)[:NEIGHBOURS]  # of many copies, itself may not be among the nearest
        rows.append({"ids": positions[others].tolist(), "distances": distances[others].tolist()})
    return rows
