"""The images that a command is to embed, found and embedded."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from siamese.decoding.names import counted, few, one_line, visible
from siamese.decoding.present import check_files
from siamese.errors import ConfigError, RunError

if TYPE_CHECKING:
    from siamese.encoder import Encoder

log = logging.getLogger("embed")

LARGEST = 128  # pixels of the longer side of a thumbnail


@dataclass(frozen=True)
class Collected:
    """Images to embed.

    Attributes:
        paths: [N].
        ids: text [N], all different.
        labels: int64 [N], indices into ``class_names``, -1 of an image without a class.
        parts: text [N], "train", "val", "test", "query" or "gallery" where folders say so, else "".
    """

    paths: list[Path]
    ids: np.ndarray
    labels: np.ndarray
    class_names: list[str]
    parts: np.ndarray


@dataclass(frozen=True)
class Embeddings:
    """Embedded images.

    Attributes:
        embeddings: float32 [N, D].
        of: what they are of, N images too.
        thumbnails: a PNG file an image, as the network saw it; None where they were not asked for.
    """

    embeddings: np.ndarray
    of: Collected
    thumbnails: list[bytes] | None

    def __str__(self) -> str:
        count, dimensions = self.embeddings.shape
        classes = counted(len(self.of.class_names), "class", "classes") if self.of.class_names else "no classes"
        return f"{counted(count, 'embedding')} of {dimensions} dimensions, {classes}"


def collected(given: Sequence[Path]) -> Collected:
    """The images in a folder, or the image files that ``given`` names.

    Raises:
        ConfigError: for a folder beside other things, one without images, and for files that are not there.
        RunError: for a folder that cannot be read.
    """
    if any(path.is_dir() for path in given):
        if len(given) > 1:
            raise ConfigError(f"expected one folder, or image files; found a folder among {len(given):,} names")
        return _in_folder(given[0])
    check_files(given)
    if twice := [path for path, times in Counter(given).items() if times > 1]:
        raise ConfigError(f"{few(twice)}: named more than once; expected each image once")
    nobody = np.full(len(given), -1)
    return Collected(list(given), np.array(visible([*map(str, given)])), nobody, [], np.full(len(given), ""))


def _in_folder(root: Path) -> Collected:
    from siamese.data.files.find import LOOSE, Skipped, find, images_below

    try:
        found = find(root)
    except ConfigError as error:
        skipped = Skipped()
        if not images_below(root, skipped):
            besides = f"; beside it, {skipped}" if str(skipped) else ""
            raise ConfigError(f"{one_line(root)}: holds no image{besides}") from None
        raise ConfigError(str(error).replace("data.root=", "")) from None
    except RunError as error:
        raise RunError(str(error).replace("data.root=", "")) from None
    loose = sorted(found.skipped.kinds.pop(LOOSE, []))  # in training it could not be said what they are of
    if str(found.skipped):
        log.info("%s: skipped %s", one_line(root), found.skipped)
    paths = [*found.paths, *loose]
    return Collected(
        [root / path for path in paths],
        np.array(visible(paths)),
        np.array([*found.labels, *[-1] * len(loose)], dtype=np.int64),
        found.class_names,
        np.array([*found.parts, *[""] * len(loose)]),
    )


def embedded(given: Collected, encoder: Encoder, *, flip: bool | None, skip: bool, thumbnails: bool) -> Embeddings:
    """``given`` embedded; damaged files left out, where ``skip`` says so, and named in the log.

    Raises:
        RunError: for damaged files that are not to be skipped, and where all are damaged.
    """
    from siamese.encoder.images import damage

    vectors, pictures = [np.empty((0, encoder.embedding_dim), np.float32)], []
    positions: list[int] = []
    damaged: dict[int, str] = {}
    for block, some in encoder.each_block(given.paths, flip=flip):
        vectors.append(some.numpy())
        positions += block.positions
        damaged |= block.damaged
        if thumbnails:
            pictures += [_png(pixels) for pixels in block.pixels.numpy()]
    if damaged:
        said = damage(given.paths, damaged)
        if not skip or not positions:
            raise RunError(f"{said}; --damaged skip leaves them out" if positions else said)
        log.warning("left out: %s", said)
    kept = np.array(positions, dtype=np.int64)
    of = Collected(
        [given.paths[position] for position in positions],
        given.ids[kept],
        given.labels[kept],
        given.class_names,
        given.parts[kept],
    )
    return Embeddings(np.concatenate(vectors), of, pictures if thumbnails else None)


def _png(pixels: np.ndarray) -> bytes:
    """``pixels``, uint8 [3, H, W], as a small PNG file."""
    image, file = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), io.BytesIO()
    image.thumbnail((LARGEST, LARGEST))
    image.save(file, "PNG")
    return file.getvalue()
