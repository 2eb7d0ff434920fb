"""Making an index, and changing it."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from siamese.decoding.decode import DamagedError, Decoding, decode
from siamese.decoding.names import counted, few, one_line, visible
from siamese.encoder import Encoder
from siamese.encoder.images import workers
from siamese.errors import ConfigError, RunError
from siamese.errors import nearest as nearest_name
from siamese.evaluation.blocks import directions
from siamese.evaluation.names import FAR
from siamese.index.index import Index, fitting
from siamese.index.nearest import KINDS, Approximate, nearest
from siamese.index.store import Added, Manifest, Stored, digest
from siamese.runs.locks import claim

AT_ONCE = 5_000  # images that are embedded and written at a time: as many are lost when a process is killed
# Thumbnails: all of an image, on white.
SMALL = Decoding(160, "pad", [255, 255, 255], "refuse", None, 1)
QUERIES = 1_000  # on which what an approximate index misses is measured
RATES = (None, *FAR)  # of false accepts; None is the equal error rate

log = logging.getLogger("index")


@dataclass(frozen=True)
class Files:
    """Image files to add: their paths, absolute [N], and of each its class and its part, empty without."""

    paths: list[Path]
    labels: list[str]
    parts: list[str]


@dataclass(frozen=True)
class Change:
    """What adding did: the numbers of files that were ``added``, were there ``already``, or were there with another
    content and ``replaced``; and the ``damaged`` ones, with the reasons."""

    added: int
    already: int
    replaced: int
    damaged: dict[str, str]


def fingerprint(encoder: Encoder, flip: bool) -> str:
    """What an embedding depends on: SHA-256 of the weights and of how images are brought to pixels."""
    total = hashlib.sha256()
    decoding = encoder.decoding
    total.update(repr((decoding.size, decoding.fit, tuple(decoding.background), flip)).encode())
    for name, value in sorted(encoder.network.net.state_dict().items()):
        total.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().double().numpy().tobytes())
    return total.hexdigest()


def created(folder: Path, encoder: Encoder, kind: str = "flat", flip: bool = False) -> Index:
    """An index that holds nothing yet; of a run that was measured with flips averaged, it averages them too.

    Raises:
        ConfigError: when ``folder`` is there already.
    """
    if kind not in KINDS:
        raise ConfigError(f"--kind {kind}: expected one of {', '.join(KINDS)}{nearest_name(kind, KINDS)}")
    thresholds, flip = {}, flip or encoder.config.evaluation.flip
    for far in RATES:
        try:
            threshold = encoder.threshold(far)
        except RunError:  # a run that has none can be searched all the same
            continue
        thresholds[far or threshold.name] = threshold.distance
    manifest = Manifest(
        kind=kind,
        run=str(encoder.run.absolute()),
        run_id=str(encoder.manifest["run_id"]),
        checkpoint=encoder.checkpoint,
        weights=fingerprint(encoder, flip),
        flip=flip,
        dimensions=encoder.embedding_dim,
        thresholds=thresholds,
    )
    return Index(Stored.create(folder, manifest))


def add(index: Index, encoder: Encoder, files: Files, *, skip: bool = False) -> tuple[Index, Change]:
    """Embed ``files`` into ``index``, but those that are in it already; damaged ones are left out where ``skip`` says
    so. Each :data:`AT_ONCE` images are on disk for good before the next are begun.

    Raises:
        ConfigError: when another process changes the index.
        RunError: for damaged files that are not to be skipped; what came before them is in the index.
    """
    claim(index.stored.folder)
    stored = Stored.read(index.stored.folder)  # as it is now that nobody else changes it
    stored.sweep()
    known = {stored.columns["paths"][i]: i for i in np.flatnonzero(stored.present).tolist()}
    stamps = [_stamp(path) for path in files.paths]
    new = [i for i, path in enumerate(files.paths) if not _same_stamp(stored, known.get(str(path)), stamps[i])]
    already, replaced, added = len(files.paths) - len(new), 0, 0
    damaged: dict[str, str] = {}
    for start in range(0, len(new), AT_ONCE):
        some = new[start : start + AT_ONCE]
        with ThreadPoolExecutor(workers()) as pool:
            digests = dict(zip(some, pool.map(lambda i: digest(files.paths[i]), some), strict=True))
        same = {i for i in some if _same_digest(stored, known.get(str(files.paths[i])), digests[i])}
        already += len(same)
        some = [i for i in some if i not in same]
        embedded = encoder.embed_readable([files.paths[i] for i in some], flip=index.manifest.flip)
        bad = {some[position]: reason for position, reason in embedded.damaged.items()}
        damaged |= {str(files.paths[i]): reason for i, reason in bad.items()}
        some = [i for i in some if i not in bad]
        if some:
            before = [known[str(files.paths[i])] for i in some if str(files.paths[i]) in known]
            stored = stored.with_segment(
                Added(
                    paths=[str(files.paths[i]) for i in some],
                    labels=[files.labels[i] for i in some],
                    parts=[files.parts[i] for i in some],
                    digests=[digests[i] for i in some],
                    stamps=[stamps[i] for i in some],
                    vectors=directions(embedded.embeddings).astype(np.float32),
                    thumbnails=_thumbnails([files.paths[i] for i in some]),
                ),
                instead_of=before,
            )
            replaced += len(before)
            added += len(some) - len(before)
        if damaged and not skip:
            names = few([f"{one_line(Path(path))}: {reason}" for path, reason in damaged.items()])
            raise RunError(
                f"{counted(len(damaged), 'file')} cannot be read: {names}; --damaged skip leaves them out. "
                f"{index.name} has {counted(added + replaced, 'other')} by now, and --add goes on"
            )
        if start + AT_ONCE < len(new):
            log.info("%s of %s images", f"{start + AT_ONCE:,}", f"{len(new):,}")
    return Index(stored), Change(added, already, replaced, damaged)


def structured(index: Index) -> Index:
    """``index`` with all its images in its approximate index, where it is of a kind that has one."""
    stored, kind = index.stored, index.manifest.kind
    count = int(stored.starts[-1])
    if kind == "flat" or not count or (stored.manifest.structure or {}).get("rows") == count:
        return index
    approximate = index.approximate
    if approximate is None:
        approximate = Approximate.build(kind, stored.vectors)
    else:
        rows = approximate.rows
        firsts = [max(0, rows - int(start)) for start in stored.starts[:-1]]
        rest = [some[first:] for some, first in zip(stored.vectors, firsts, strict=True)]
        approximate.extend([some for some in rest if len(some)])
    return Index(stored.with_structure(approximate.serialised(), count))


def recall(index: Index, k: int = 10) -> float:
    """Of the ``k`` nearest to some of the images in ``index``, the share that its approximate index finds."""
    there = np.flatnonzero(index.stored.present)
    k = min(k, len(there))
    chosen = there[np.linspace(0, len(there) - 1, min(QUERIES, len(there))).astype(int)]
    queries = np.stack([index.vector(position) for position in chosen])
    allowed = None if index.stored.present.all() else index.stored.present
    exact, some = (nearest(queries, index.stored.vectors, k, allowed, how)[0] for how in (None, index.approximate))
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(exact, some, strict=True)]))


def remove(index: Index, pattern: str) -> tuple[Index, int]:
    """``index`` without the images whose paths fit ``pattern``, as in file names, and how many those were.

    Raises:
        ConfigError: when none does, and when another process changes the index.
    """
    claim(index.stored.folder)
    stored = Stored.read(index.stored.folder)
    paths, there = stored.columns["paths"], np.flatnonzero(stored.present)
    gone = [i for i in there.tolist() if fitting(paths[i], pattern)]
    if not gone:
        example = f", such as {visible(paths[there[0] : there[0] + 1])[0]}" if len(there) else ""
        raise ConfigError(
            f"--remove {pattern}: fits none of {counted(len(there), 'path')}; paths are whole{example}, and * stands "
            "for anything"
        )
    return Index(stored.without(gone)), len(gone)


@dataclass(frozen=True)
class Checked:
    """What is wrong with an index: ``damaged`` files of its own, and image files that are ``missing`` or have
    ``changed`` since they were added."""

    damaged: list[str]
    missing: list[str]
    changed: list[str]


def check(index: Index) -> Checked:
    """Compare every file of ``index`` with its checksum, and every image file with what it was when it was added."""
    stored = index.stored
    damaged = stored.damaged()
    if damaged:
        return Checked(damaged, [], [])
    columns, missing, changed = stored.columns, [], []
    for i in np.flatnonzero(stored.present).tolist():
        path = Path(columns["paths"][i])
        if not path.is_file():
            missing.append(str(path))
        elif _stamp(path) != tuple(columns["stamps"][i]) and digest(path) != columns["digests"][i]:
            changed.append(str(path))
    return Checked([], missing, changed)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise RunError(f"{one_line(path)}: cannot be read ({error.strerror})") from None
    return found.st_size, found.st_mtime_ns


def _same_stamp(stored: Stored, position: int | None, stamp: tuple[int, int]) -> bool:
    return position is not None and tuple(stored.columns["stamps"][position]) == stamp


def _same_digest(stored: Stored, position: int | None, found: str) -> bool:
    return position is not None and stored.columns["digests"][position] == found


def thumbnail(path: Path) -> bytes:
    """A small JPEG file of the image in ``path``.

    Raises:
        RunError: when it cannot be read.
    """
    try:
        pixels = decode(path, SMALL).pixels
    except DamagedError as error:
        raise RunError(f"{one_line(path)}: {error}") from None
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "JPEG", quality=85)
    return file.getvalue()


def _thumbnails(paths: Sequence[Path]) -> list[bytes]:
    with ThreadPoolExecutor(workers()) as pool:
        return list(pool.map(thumbnail, paths))
