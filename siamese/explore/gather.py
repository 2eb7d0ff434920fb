"""What the page shows of a run: points, neighbours, failures, thumbnails."""

from __future__ import annotations

import importlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from siamese.config.schema import Config
from siamese.data.draws import generator
from siamese.data.images import pixels
from siamese.data.load import load
from siamese.errors import RunError, several
from siamese.evaluation.projection import fit_projection
from siamese.runs.arrays import read_arrays
from siamese.runs.tables import read_failures

PARTS = ("validation", "test")
NEIGHBOURS = 12
BLOCK = 1024  # rows of cosines at a time
COLUMNS = ROWS = 32  # of a sheet of thumbnails
PICTURES = 11 * 2**19  # bytes of all sheets: with 10,000 images, the page stays below 15 MB
QUALITIES = ((48, 80), (40, 70), (32, 70), (32, 50), (24, 50), (24, 30), (16, 30))  # edge in pixels, of WebP


@dataclass(frozen=True)
class Embedded:
    """The images of a run that are embedded, validation first.

    Attributes:
        embeddings: float32 [N, D].
        parts: [N], indices into ``part_names``.
        labels: [N], indices into ``class_names``, -1 of images without a class.
        ids: [N], their names.
        failures: rows of failures.csv.
    """

    embeddings: np.ndarray
    parts: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    part_names: tuple[str, ...]
    class_names: tuple[str, ...]
    failures: list[dict[str, str]]


@dataclass(frozen=True)
class Sheets:
    """Thumbnails in sheets of 32 × 32, each whole in an ``edge`` × ``edge`` square: WebP files."""

    files: list[bytes]
    edge: int


def read_embedded(run: Path) -> Embedded:
    """What the arrays of ``run`` hold.

    Raises:
        RunError: for a run without embeddings, or with damaged ones.
    """
    found = {part: run / "arrays" / f"{part}.npz" for part in PARTS if (run / "arrays" / f"{part}.npz").exists()}
    if not found:
        raise RunError(f"{run / 'arrays'}: holds neither validation.npz nor test.npz; expected a completed run's")
    arrays = [read_arrays(path, "embeddings", "labels", "ids", "class_names") for path in found.values()]
    dimensions = {array["embeddings"].shape[1] for array in arrays}
    if len(dimensions) > 1 or len({tuple(array["class_names"]) for array in arrays}) > 1:
        raise RunError(f"{run / 'arrays'}: validation.npz and test.npz are of different runs (dimensions or classes)")
    embeddings = np.concatenate([array["embeddings"] for array in arrays]).astype(np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Embedded(
        embeddings / np.where(lengths > 0, lengths, 1),
        np.repeat(np.arange(len(arrays)), [len(array["ids"]) for array in arrays]),
        np.concatenate([array["labels"] for array in arrays]),
        np.concatenate([array["ids"] for array in arrays]),
        tuple(found),
        tuple(map(str, arrays[0]["class_names"])),
        read_failures(run),
    )


def maps(of: Embedded, seed: int) -> dict[str, np.ndarray]:
    """The planes that there are, by name, each [N, 2]: principal components, and UMAP where umap-learn is installed.

    Raises:
        RunError: for too few embeddings, or ones that are all the same.
    """
    try:
        found = {"PCA": fit_projection(of.embeddings)(of.embeddings)}
    except ValueError as error:
        raise RunError(f"the embeddings cannot be drawn: {error}") from None
    if importlib.util.find_spec("umap") is not None:
        umap = importlib.import_module("umap")
        state = int(generator(seed, "explore").integers(2**31))
        found["UMAP"] = umap.UMAP(metric="cosine", random_state=state).fit_transform(of.embeddings)
    return found


def neighbours(of: Embedded, count: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other images of the same part, the nearest first, and their cosines: [N, k] each; -1 where a part has
    fewer."""
    nearest = np.full((len(of.ids), count), -1)
    cosines = np.zeros((len(of.ids), count), np.float32)
    for part in range(len(of.part_names)):
        members = np.flatnonzero(of.parts == part)
        own = of.embeddings[members]
        k = min(count, len(members) - 1)
        for start in range(0, len(members) if k > 0 else 0, BLOCK):
            some = np.arange(start, min(start + BLOCK, len(members)))
            block = own[some] @ own.T
            block[np.arange(len(some)), some] = -np.inf
            order = np.argpartition(-block, k - 1, axis=1)[:, :k]
            values = np.take_along_axis(block, order, axis=1)
            sort = np.lexsort((order, -values), axis=1)
            nearest[members[some], :k] = members[np.take_along_axis(order, sort, axis=1)]
            cosines[members[some], :k] = np.take_along_axis(values, sort, axis=1)
    return nearest, cosines


def thumbnails(of: Embedded, config: Config) -> Sheets:
    """The images themselves, loaded as the run loaded them, as large and as good as 5.8 MB allow.

    Raises:
        RunError: when the data no longer has all of them.
    """
    source = load(config.data, config.seed)
    place = {str(name): i for i, name in enumerate(source.ids)}
    missing = [str(name) for name in of.ids if str(name) not in place]
    if missing:
        where = config.data.root or config.data.source_name
        raise RunError(
            f"{where}: no longer has {len(missing):,} of the run's {len(of.ids):,} images ({several(missing, 3)}); "
            "bring them back, or add --no-images"
        )
    index = np.array([place[str(name)] for name in of.ids])
    for most, quality in QUALITIES:
        edge = min(most, max(config.data.size))
        files: list[bytes] = []
        for start in range(0, len(index), COLUMNS * ROWS):
            some = pixels(source.images, index[start : start + COLUMNS * ROWS])
            files.append(_sheet(some, edge, quality, config.data.background))
            if sum(map(len, files)) > PICTURES:
                break
        else:
            break
    else:
        raise RunError(f"thumbnails of {len(index):,} images are larger than {PICTURES / 1e6:.0f} MB; add --no-images")
    return Sheets(files, edge)


def _sheet(images: np.ndarray, edge: int, quality: int, background: Sequence[int]) -> bytes:
    """``images``, uint8 [n, 3, H, W], as one WebP file of rows of 32; beside those that are no squares ``background``,
    RGB."""
    rows = -(-len(images) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * edge, rows * edge))
    for i, image in enumerate(images.transpose(0, 2, 3, 1)):
        small = Image.fromarray(np.ascontiguousarray(image))
        if small.size != (edge, edge):
            red, green, blue = background
            small = ImageOps.pad(small, (edge, edge), Image.Resampling.BICUBIC, (red, green, blue))
        sheet.paste(small, (i % COLUMNS * edge, i // COLUMNS * edge))
    file = io.BytesIO()
    sheet.save(file, "WEBP", quality=quality)
    return file.getvalue()


def failed(of: Embedded, rows: Sequence[dict[str, str]]) -> list[int]:
    """The place of the image of each failure; -1 of one that is not embedded here."""
    place = {(of.part_names[part], str(name)): i for i, (part, name) in enumerate(zip(of.parts, of.ids, strict=True))}
    return [place.get((row["part"], row["id"]), -1) for row in rows]
