"""Decoded pixels of a collection, kept as one array that is mapped and not read whole."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from siamese.data.files.collection import ImageFiles
from siamese.data.files.decode import decode
from siamese.data.images import LabelledImages
from siamese.errors import RunError

log = logging.getLogger(__name__)

FORMAT = 1  # of the cache; raised when decoding changes


def decoded(source: LabelledImages) -> LabelledImages:
    """``source``, whose images are files, with their pixels.

    Raises:
        RunError: for a file that is no image, or a damaged one, and a cache that cannot be written.
    """
    files = source.images
    assert isinstance(files, ImageFiles)
    cache = cache_folder(files.decoding.cache_dir) / _key(files)
    if not (cache / "images.npy").exists():
        _decode_into(cache, files)
    images = np.load(cache / "images.npy", allow_pickle=False)
    return replace(source, images=torch.from_numpy(images))


def cache_folder(cache_dir: str | None) -> Path:
    """``data.cache_dir``, or where decoded pixels are kept without it."""
    if cache_dir:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siamese"


def _key(files: ImageFiles) -> str:
    """A name for the decoded pixels of exactly these files as they are decoded."""
    how = files.decoding
    digest = hashlib.blake2b(f"{FORMAT} {how.size} {how.fit} {how.background}".encode(), digest_size=12)
    for path in files.paths:
        stat = (files.root / path).stat()
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _decode_into(cache: Path, files: ImageFiles) -> None:
    """Decode ``files`` into a folder beside ``cache`` and rename it; the first writer wins."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".decoding-", dir=cache.parent))
    except OSError as error:
        raise RunError(f"data.cache_dir={cache.parent}: cannot be written to ({error.strerror})") from None
    try:
        pixels = np.lib.format.open_memmap(work / "images.npy", mode="w+", dtype=np.uint8, shape=files.shape)
        with ThreadPoolExecutor(files.decoding.decode_workers) as pool:
            one = partial(decode, decoding=files.decoding)
            images = pool.map(one, (files.root / path for path in files.paths), chunksize=64)
            for i, image in enumerate(track(images, f"decoding {files.root}", total=len(files), transient=True)):
                pixels[i] = image
        pixels.flush()
        (work / "meta.json").write_text(json.dumps({"root": str(files.root.absolute()), "files": len(files)}))
        os.rename(work, cache)
        log.info("%s images of %s decoded to %s", f"{len(files):,}", files.root, cache)
    except OSError as error:
        if not (cache / "images.npy").exists():  # otherwise another process was first, with the same pixels
            raise RunError(f"{cache}: could not be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)
