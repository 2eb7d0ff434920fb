"""Benchmarks of retrieval as their archives unpack: lists of images in text files, and the field's own parts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siamese.data.files import Decoding, collection
from siamese.data.files.listed import files_below, present
from siamese.data.images import LabelledImages
from siamese.decoding.names import few
from siamese.errors import ConfigError, RunError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Benchmark:
    """A collection as it is published.

    Attributes:
        archive: what to get from ``url``; it unpacks to ``folder``.
        counts: images in each part of the whole collection.
    """

    name: str
    url: str
    archive: str
    folder: str
    counts: Mapping[str, int]

    def places(self, root: str) -> tuple[Path, Path]:
        """``root``, and ``folder`` below it."""
        base = Path(root).expanduser()
        return base, base / self.folder

    def unpacked(self, root: str, *needed: str) -> Path:
        """The one of :meth:`places` with all that is ``needed``.

        Raises:
            ConfigError: when neither has it; see :meth:`missing`.
        """
        for place in self.places(root):
            if all((place / name).exists() for name in needed):
                return place
        raise self.missing(root, *needed)

    def missing(self, root: str, *needed: str) -> ConfigError:
        """What to say where ``root`` lacks some of what is ``needed``: what to get, and from where."""
        return ConfigError(
            f"data.root={root}: {self.name} is not there; expected a folder with {', '.join(needed)} "
            f"(get {self.archive} from {self.url})"
        )


@dataclass
class Listing:
    """What a benchmark's lists say, an image a row: its path, its class and its part."""

    paths: list[str] = field(default_factory=list)
    classes: list[Any] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def add(self, path: str, of_class: Any, part: str) -> None:
        self.paths.append(path)
        self.classes.append(of_class)
        self.parts.append(part)


def lines(file: Path, columns: Mapping[str, type], first: int = 1) -> Iterator[tuple[int, list[Any]]]:
    """Lines of ``file`` from the ``first`` on, each with its number and its ``columns``, parted by blanks.

    Raises:
        RunError: for a file that cannot be read, and a line that has not these columns.
    """
    try:
        text = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise RunError(f"{file}: cannot be read ({error})") from None
    for number, line in enumerate(text[first - 1 :], first):
        words = line.split()
        try:
            yield number, [kind(word) for kind, word in zip(columns.values(), words, strict=True)]
        except ValueError:
            raise RunError(f"{file}:{number}: expected {' '.join(columns)}, found {line[:80]!r}") from None


def check_header(file: Path, number: int, expected: str) -> None:
    """Refuse a ``file`` whose line ``number`` is not what is ``expected``.

    Raises:
        RunError: naming both.
    """
    columns = dict.fromkeys(expected.split(), str)
    found = next((words for _, words in lines(file, columns, number)), None)
    if found != expected.split():
        raise RunError(f"{file}:{number}: expected {expected}, found {' '.join(found or ['the end of the file'])}")


def collected(
    benchmark: Benchmark,
    folder: Path,
    file: Path,
    listing: Listing,
    decoding: Decoding,
    class_name: Callable[[Any], str] = str,
) -> LabelledImages:
    """The images below ``folder`` that ``file`` lists, with those of their classes that have any, in order.

    Raises:
        RunError: for an image that is listed twice, or is not there (but see :func:`present`).
    """
    repeated = [path for path, count in Counter(listing.paths).items() if count > 1]
    if repeated:
        raise RunError(f"{file}: {len(repeated):,} images are listed more than once ({few(repeated)})")
    kept = present(file, listing.paths, folder, files_below(folder), decoding)
    parts = [listing.parts[i] for i in kept]
    _compare_counts(benchmark, folder, Counter(parts))
    classes = sorted({listing.classes[i] for i in kept})
    number = {of_class: label for label, of_class in enumerate(classes)}
    return collection(
        folder,
        [listing.paths[i] for i in kept],
        [number[listing.classes[i]] for i in kept],
        [class_name(of_class) for of_class in classes],
        decoding,
        parts=parts,
    )


def _compare_counts(benchmark: Benchmark, folder: Path, found: Mapping[str, int]) -> None:
    def shown(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{counts.get(part, 0):,} in {part}" for part in benchmark.counts)

    if dict(found) != dict(benchmark.counts):
        log.warning(
            "%s: not the whole of %s: %s images; expected %s",
            folder,
            benchmark.name,
            shown(found),
            shown(benchmark.counts),
        )


def train_or_test(of_class: int, last_of_train: int) -> str:
    """The part of a class in the protocol of Song et al. 2016: the first half of the classes trains, the rest tests."""
    return "train" if of_class <= last_of_train else "test"
