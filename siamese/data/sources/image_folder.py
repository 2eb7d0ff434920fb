"""Image folders."""

from __future__ import annotations

import logging
from pathlib import Path

from siamese.data.files import Decoding, collection
from siamese.data.files.find import find
from siamese.data.files.source import source_of_files
from siamese.data.images import LabelledImages
from siamese.decoding.names import one_line

log = logging.getLogger(__name__)


@source_of_files
def image_folder(root: str, decoding: Decoding) -> LabelledImages:
    """The images in ``root/<class>/`` or ``root/{train,val,test,query,gallery}/<class>/``, at any depth.

    They are in the order of their parts, classes and names. Images in a folder without class folders have no class.
    What is skipped is counted in one line of the log.

    Raises:
        ConfigError: for a root that is no folder, has no images, or has only some of the parts of a split.
        RunError: for a folder that cannot be read and leaves a class without images.
    """
    folder = Path(root).expanduser()
    found = find(folder)
    if str(found.skipped):
        log.info("%s: skipped %s", one_line(folder), found.skipped)
    skipped = {several: sorted(paths) for (_, several), paths in found.skipped.kinds.items() if paths}
    return collection(
        folder, found.paths, found.labels, found.class_names, decoding, parts=found.parts, skipped=skipped
    )
