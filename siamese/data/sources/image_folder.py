"""Image folders."""

from __future__ import annotations

import logging
from pathlib import Path

from siamese.data.files import Decoding, collection
from siamese.data.files.find import find
from siamese.data.files.names import one_line
from siamese.data.images import LabelledImages

log = logging.getLogger(__name__)


def image_folder(
    root: str,
    image_size: int | list[int],
    fit: str,
    background: list[int],
    damaged: str,
    cache_dir: str | None,
    decode_workers: int,
) -> LabelledImages:
    """The images in ``root/<class>/`` or ``root/{train,val,test,query,gallery}/<class>/``, at any depth.

    They are in the order of their parts, classes and names. Images in a folder without class folders have no class.
    What is skipped is counted in one line of the log.

    Args:
        cache_dir: where decoded pixels are kept; null is $XDG_CACHE_HOME/siamese, or else ~/.cache/siamese.
        decode_workers: how many images are decoded at a time.

    Raises:
        ConfigError: for a root that is no folder, has no images, or has only some of the parts of a split.
        RunError: for a folder that cannot be read and leaves a class without images.
    """
    folder = Path(root).expanduser()
    found = find(folder)
    if str(found.skipped):
        log.info("%s: skipped %s", one_line(folder), found.skipped)
    decoding = Decoding(image_size, fit, background, damaged, cache_dir, decode_workers)
    return collection(folder, found.paths, found.labels, found.class_names, decoding, parts=found.parts)
