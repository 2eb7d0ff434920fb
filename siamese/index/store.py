"""An index on disk: a folder whose index.json says which of the other files count.

Images are added in segments. A segment is written whole before index.json names it, and index.json is replaced in one
step; so whatever is killed, what was there before is there after.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from siamese.decoding.names import one_line
from siamese.errors import ConfigError, RunError, nearest
from siamese.runs.files import TEMPORARY, atomic, sweep_leftovers, write_json

SCHEMA = 1
MANIFEST = "index.json"


@dataclass(frozen=True)
class Added:
    """Images of one segment.

    Attributes:
        paths: text [n], absolute.
        labels: text [n], the class's folder, empty without one.
        parts: text [n], train, val, test, query or gallery where folders say so, else empty.
        digests: SHA-256 of each file, hexadecimal [n].
        stamps: of each file its size and the time that it was changed, in nanoseconds.
        vectors: float32 [n, D], of length 1.
        thumbnails: a JPEG file each.
    """

    paths: list[str]
    labels: list[str]
    parts: list[str]
    digests: list[str]
    stamps: list[tuple[int, int]]
    vectors: np.ndarray
    thumbnails: list[bytes]


@dataclass(frozen=True)
class Manifest:
    """What index.json holds.

    Attributes:
        kind: flat, hnsw or ivfpq.
        run: the run directory that the network is of; ``run_id`` and ``checkpoint`` say which it is.
        weights: see :func:`siamese.index.building.fingerprint`; an index is searched with the same alone.
        flip: whether embeddings are averaged over mirror images.
        dimensions: D.
        thresholds: by the rate of false accepts (eer, 1e-2, …), the distances of the run's thresholds.
        segments: of each its name, its number of images, and by the name of each file its bytes and its SHA-256.
        removed: the file with the positions of images that count no more, likewise, or None.
        structure: the file of an approximate index, likewise, with the number of images that are in it, or None.
    """

    kind: str
    run: str
    run_id: str
    checkpoint: str
    weights: str
    flip: bool
    dimensions: int
    thresholds: dict[str, float]
    segments: list[dict[str, Any]] = field(default_factory=list)
    removed: dict[str, Any] | None = None
    structure: dict[str, Any] | None = None
    schema: int = SCHEMA

    def files(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every file that counts, with its bytes and SHA-256."""
        for segment in self.segments:
            for name, of in segment["files"].items():
                yield f"{segment['name']}.{name}", of
        for other in (self.removed, self.structure):
            if other is not None:
                yield other["name"], other


@dataclass(frozen=True)
class Stored:
    """An index's folder, as its index.json describes it."""

    folder: Path
    manifest: Manifest

    @classmethod
    def read(cls, folder: Path) -> Stored:
        """Read the manifest of ``folder`` and check that its files are as long as it says.

        Raises:
            ConfigError: for what is no index, or one of a later version.
            RunError: for an index that is damaged or cut short.
        """
        if not (folder / MANIFEST).is_file():
            if folder.exists():
                raise ConfigError(f"{one_line(folder)}: expected an index, found no {MANIFEST} in it")
            beside = folder.parent
            hint = nearest(folder.name, sorted(os.listdir(beside))) if beside.is_dir() else ""
            raise ConfigError(f"{one_line(folder)}: no such folder{hint}")
        try:
            held = json.loads((folder / MANIFEST).read_text())
            if held["schema"] > SCHEMA:
                raise ConfigError(
                    f"{one_line(folder)}: written by a later version (schema {held['schema']}, {SCHEMA} here)"
                )
            manifest = Manifest(**{one.name: held[one.name] for one in fields(Manifest)})
            expected = [(name, int(of["bytes"])) for name, of in manifest.files()]
        except OSError as error:
            raise RunError(f"{one_line(folder / MANIFEST)}: cannot be read ({error.strerror})") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__}: {error}"
            raise RunError(f"{one_line(folder / MANIFEST)}: damaged ({what})") from None
        for name, length in expected:
            there = (folder / name).stat().st_size if (folder / name).is_file() else None
            if there != length:
                found = "it is not there" if there is None else f"found {there:,} bytes, expected {length:,}"
                raise RunError(f"{one_line(folder / name)}: {found}; the index is damaged, build it anew")
        return cls(folder, manifest)

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Stored:
        """Begin an index that holds nothing.

        Raises:
            ConfigError: when ``folder`` is there already.
            RunError: when it cannot be written.
        """
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(f"--out {one_line(folder)}: already exists; --add FOLDER adds to an index") from None
        except OSError as error:
            raise RunError(f"{one_line(folder)}: could not be made ({error.strerror})") from None
        try:
            write_json(folder / MANIFEST, asdict(manifest))
        except RunError:
            folder.rmdir()  # so that the same command can be given again
            raise
        return cls(folder, manifest)

    def with_segment(self, added: Added, instead_of: Sequence[int] = ()) -> Stored:
        """``added`` written as a segment of its own, and the index that has it, without the images at positions
        ``instead_of``."""
        number = 1 + max((int(segment["name"].rpartition("-")[2]) for segment in self.manifest.segments), default=0)
        name, offsets = f"segment-{number:05d}", np.cumsum([0, *map(len, added.thumbnails)], dtype=np.int64)
        columns = {key: getattr(added, key) for key in ("paths", "labels", "parts", "digests", "stamps")}
        written = {
            "images.json": json.dumps(columns).encode(),
            "thumbnails.bin": b"".join(added.thumbnails),
        }
        files = {key: self._write(f"{name}.{key}", content) for key, content in written.items()}
        for key, array in (("vectors.npy", added.vectors), ("offsets.npy", offsets)):
            files[key] = self._write(f"{name}.{key}", array)
        segment = {"name": name, "count": len(added.paths), "files": files}
        removed = self._without(instead_of) if len(instead_of) else self.manifest.removed
        return self._with(segments=[*self.manifest.segments, segment], removed=removed)

    def without(self, positions: Sequence[int]) -> Stored:
        """The index without the images at ``positions``, of which some may be gone already."""
        return self._with(removed=self._without(positions))

    def with_structure(self, content: np.ndarray, rows: int) -> Stored:
        """The index with an approximate index of its first ``rows`` images, uint8, as faiss serialises it."""
        name = _next(self.manifest.structure, self.manifest.kind, "faiss")
        return self._with(structure={"name": name, "rows": rows, **self._write(name, content.tobytes())})

    def _without(self, positions: Sequence[int]) -> dict[str, Any]:
        name = _next(self.manifest.removed, "removed", "npy")
        return {"name": name, **self._write(name, np.union1d(self.removed, positions).astype(np.int64))}

    def _with(self, **changed: Any) -> Stored:
        """The index with another manifest, which is on disk from then on; files that count no more are removed."""
        manifest = replace(self.manifest, **changed)
        write_json(self.folder / MANIFEST, asdict(manifest))
        stored = Stored(self.folder, manifest)
        stored.sweep()
        return stored

    def sweep(self) -> None:
        """Remove files that a killed process left, and those that count no more."""
        sweep_leftovers(self.folder)
        named = {name for name, _ in self.manifest.files()}
        for pattern in ("segment-*", "removed-*.npy", "*.faiss"):
            for file in self.folder.glob(pattern):
                if file.name not in named and TEMPORARY not in file.name:
                    file.unlink(missing_ok=True)

    def _write(self, name: str, content: bytes | np.ndarray) -> dict[str, Any]:
        with atomic(self.folder / name) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                np.save(file, content, allow_pickle=False)
        return {"bytes": (self.folder / name).stat().st_size, "sha256": digest(self.folder / name)}

    # -- what is in it -------------------------------------------------------------------------

    @cached_property
    def vectors(self) -> list[np.ndarray]:
        """float32 [n, D] of each segment, mapped rather than read."""
        return [self._array(segment, "vectors.npy", mapped=True) for segment in self.manifest.segments]

    @cached_property
    def starts(self) -> np.ndarray:
        """The position of the first image of each segment, and that after the last, int64 [S + 1]."""
        return np.cumsum([0, *(segment["count"] for segment in self.manifest.segments)], dtype=np.int64)

    @cached_property
    def removed(self) -> np.ndarray:
        """Positions of images that count no more, int64, ascending."""
        if self.manifest.removed is None:
            return np.empty(0, np.int64)
        return self._load(self.manifest.removed["name"])

    @cached_property
    def present(self) -> np.ndarray:
        """Which images count, bool [N]."""
        there = np.ones(int(self.starts[-1]), dtype=bool)
        there[self.removed] = False
        return there

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """The columns of :class:`Added` that are text or numbers, of all segments."""
        joined: dict[str, list[Any]] = {name: [] for name in ("paths", "labels", "parts", "digests", "stamps")}
        for segment in self.manifest.segments:
            name = f"{segment['name']}.images.json"
            try:
                held = json.loads((self.folder / name).read_bytes())
                for key, values in joined.items():
                    if len(held[key]) != segment["count"]:
                        raise ValueError(f"{len(held[key])} {key} of {segment['count']} images")
                    values += held[key]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"{one_line(self.folder / name)}: damaged ({error})") from None
        return joined

    def thumbnail(self, position: int) -> bytes:
        """The JPEG file of the image at ``position``."""
        number = int(np.searchsorted(self.starts, position, side="right")) - 1
        segment = self.manifest.segments[number]
        first, last = self._array(segment, "offsets.npy", mapped=True)[position - self.starts[number] :][:2]
        with open(self.folder / f"{segment['name']}.thumbnails.bin", "rb") as file:
            file.seek(int(first))
            return file.read(int(last - first))

    def damaged(self) -> list[str]:
        """The files whose content is not what was written, by their checksums."""
        return [name for name, of in self.manifest.files() if digest(self.folder / name) != of["sha256"]]

    def _array(self, segment: dict[str, Any], name: str, *, mapped: bool) -> np.ndarray:
        return self._load(f"{segment['name']}.{name}", "r" if mapped else None)

    def _load(self, name: str, mode: Any = None) -> np.ndarray:
        try:
            array: np.ndarray = np.load(self.folder / name, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(f"{one_line(self.folder / name)}: damaged ({error})") from None
        return array


def _next(before: dict[str, Any] | None, stem: str, suffix: str) -> str:
    """The name of the file that takes the place of the one ``before``."""
    number = int(before["name"].partition("-")[2].partition(".")[0]) if before else 0
    return f"{stem}-{number + 1:05d}.{suffix}"


def digest(file: Path) -> str:
    """SHA-256 of the content of ``file``, hexadecimal.

    Raises:
        RunError: when it cannot be read.
    """
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{one_line(file)}: cannot be read ({error.strerror})") from None
