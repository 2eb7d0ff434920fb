"""An index, opened to be searched."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from siamese.decoding.names import counted, one_line, visible
from siamese.encoder.gallery import Neighbours, sought
from siamese.errors import ConfigError, RunError, nearest
from siamese.evaluation.names import FAR
from siamese.index.nearest import Approximate, faiss
from siamese.index.nearest import nearest as nearest_vectors
from siamese.index.store import Manifest, Stored

FIELDS = {"label": "labels", "part": "parts", "path": "paths"}  # what can be asked for, and the column that has it


@dataclass(frozen=True)
class Found:
    """An image that was found.

    Attributes:
        position: in the index.
        path: its file.
        label: its class's folder, empty without one.
        distance: Euclidean, of unit vectors: 0 to 2.
        copies: other files with the same content, which are found with it.
    """

    position: int
    path: Path
    label: str
    distance: float
    copies: tuple[Path, ...]

    @property
    def similarity(self) -> float:
        """The cosine of the angle between the embeddings: −1 to 1."""
        return 1 - self.distance**2 / 2


def open_index(folder: str | os.PathLike[str]) -> Index:
    """Open the index in ``folder``.

    Raises:
        ConfigError: for what is no index, one of a later version, and where faiss is not installed.
        RunError: for an index that is damaged or cut short.
    """
    faiss()
    index = Index(Stored.read(Path(folder).expanduser()))
    # Now, not at the first search: these files go when another process changes the index. Segments stay.
    _ = index.approximate, index.stored.removed
    return index


def fitting(value: str, pattern: str) -> bool:
    """Whether ``value`` is ``pattern``, or fits it as file names do: a name with brackets fits itself."""
    return value == pattern or fnmatch.fnmatchcase(value, pattern)


class Index:
    """Embedded images in a folder, to be searched; made by ``scripts/index.py``, opened by :func:`open_index`.

    ``len(index)`` is the number of images in it.
    """

    def __init__(self, stored: Stored) -> None:
        self.stored = stored

    @property
    def manifest(self) -> Manifest:
        return self.stored.manifest

    @property
    def name(self) -> str:
        return one_line(self.stored.folder)

    def __len__(self) -> int:
        return int(self.stored.present.sum())

    def __repr__(self) -> str:
        kind, dimensions = self.manifest.kind, self.manifest.dimensions
        return f"<index {self.name}: {counted(len(self), 'image')}, {dimensions} dimensions, {kind}>"

    @cached_property
    def approximate(self) -> Approximate | None:
        """What looks at a part of the vectors only, where there is such."""
        structure = self.manifest.structure
        if structure is None:
            return None
        file = self.stored.folder / structure["name"]
        return Approximate.read(self.manifest.kind, file.read_bytes(), one_line(file))

    # -- what is near what ---------------------------------------------------------------------

    def search(self, vectors: np.ndarray, k: int) -> Neighbours:
        """The ``k`` nearest to each of ``vectors`` float [N, D], copies and all; of those at one distance, the first
        comes first. Where an approximate index finds fewer, the rest have position -1, no text, and are infinitely far.

        Raises:
            ConfigError: for more than there are, and for vectors of another length.
        """
        positions, distances = self._nearest(vectors, k, self._allowed({}))
        columns = self.stored.columns
        found = np.unique(positions[positions >= 0]).tolist()  # once each, which is how they are told apart as text
        texts = dict(zip(found, visible([columns["paths"][i] for i in found]), strict=True)) | {-1: ""}
        paths = np.array([texts[i] for i in positions.ravel().tolist()], dtype=str)
        labels = np.array([columns["labels"][i] if i >= 0 else "" for i in positions.ravel().tolist()], dtype=str)
        shape = positions.shape
        return Neighbours(paths.reshape(shape), distances, labels.reshape(shape), positions)

    def find(
        self,
        vector: np.ndarray,
        k: int,
        *,
        where: Mapping[str, str] | None = None,
        within: float | None = None,
        exact: bool = False,
    ) -> list[Found]:
        """The ``k`` nearest images to ``vector`` float [D]; files with the same content are one.

        Args:
            where: what they must have: patterns, as in file names, of their label, part or path.
            within: the largest distance that counts; beyond, nothing is found.
            exact: look at all, whatever the kind of index.

        Raises:
            ConfigError: as :meth:`search`, and for what cannot be asked for.
        """
        allowed = self.check(k, where or {})
        count, wanted = int(allowed.sum()), k
        while True:
            positions, distances = (
                found[0] for found in self._nearest(np.atleast_2d(vector), wanted, allowed, exact=exact)
            )
            groups: dict[str, list[tuple[int, float]]] = {}
            for position, distance in zip(positions.tolist(), distances.tolist(), strict=True):
                if position >= 0:
                    groups.setdefault(self.stored.columns["digests"][position], []).append((position, distance))
            if len(groups) > k or wanted == count:  # one more, so that all copies of the last are there
                break
            wanted = min(2 * wanted + 1, count)
        found = [self._found(group) for group in groups.values()][:k]
        return [one for one in found if within is None or one.distance <= within]

    def check(self, k: int, where: Mapping[str, str]) -> np.ndarray:
        """Which images are as ``where`` wants them, bool [N].

        Raises:
            ConfigError: for what cannot be asked for, and where there are fewer than ``k``.
        """
        allowed = self._allowed(where)
        count = int(allowed.sum())
        asked = "".join(f" where {name}={pattern}" for name, pattern in where.items())
        if not count:
            raise ConfigError(f"{self.name}: holds no image{asked}{self._hint(where)}")
        if not 1 <= k <= count:
            raise ConfigError(f"k={k}: expected 1 to {count:,}, as many as there are{asked} ({self.name})")
        return allowed

    def _hint(self, where: Mapping[str, str]) -> str:
        """The label that was meant, where it alone is asked for."""
        if where.keys() != {"label"}:
            return ""
        labels = {self.stored.columns["labels"][i] for i in np.flatnonzero(self.stored.present).tolist()} - {""}
        return nearest(where["label"], map(one_line, sorted(labels)))

    def vector(self, position: int) -> np.ndarray:
        """The embedding of the image at ``position``, float32 [D]."""
        number = int(np.searchsorted(self.stored.starts, position, side="right")) - 1
        row: np.ndarray = np.array(self.stored.vectors[number][position - self.stored.starts[number]])
        return row

    def threshold(self, name: str) -> float:
        """The distance up to which two images count as the same: at the run's equal error rate (``eer``), or where a
        share of 1e-1, 1e-2 or 1e-3 of pairs of different classes is accepted.

        Raises:
            ConfigError: for another name.
            RunError: where the run had no such threshold.
        """
        known, names = self.manifest.thresholds, ["eer", *FAR]
        if name not in names:
            raise ConfigError(f"--threshold {name}: expected one of {', '.join(names)}{nearest(name, names)}")
        if name not in known:
            there = ", ".join(known) or "none"
            raise RunError(f"{self.name}: its run had no threshold {name} when it was built; it has {there}")
        return known[name]

    def _found(self, group: list[tuple[int, float]]) -> Found:
        columns = self.stored.columns
        position, distance = group[0]
        copies = tuple(Path(columns["paths"][other]) for other, _ in group[1:])
        return Found(position, Path(columns["paths"][position]), columns["labels"][position], distance, copies)

    def _allowed(self, where: Mapping[str, str]) -> np.ndarray:
        """Which images count and are as ``where`` wants them, bool [N]."""
        allowed = self.stored.present.copy()
        for name, pattern in where.items():
            if name not in FIELDS:
                raise ConfigError(
                    f"--where {name}={pattern}: expected one of {', '.join(FIELDS)}{nearest(name, FIELDS)}"
                )
            values = self.stored.columns[FIELDS[name]]
            fits = {value: fitting(value, pattern) for value in set(values)}
            allowed &= np.fromiter((fits[value] for value in values), bool, len(values))
        return allowed

    def _nearest(
        self, vectors: np.ndarray, k: int, allowed: np.ndarray, *, exact: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        count = int(allowed.sum())
        queries = sought(vectors, k, count, self.manifest.dimensions, self.name).astype(np.float32)
        some = None if len(allowed) == count else allowed
        return nearest_vectors(queries, self.stored.vectors, k, some, None if exact else self.approximate)
