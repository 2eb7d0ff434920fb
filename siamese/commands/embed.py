"""Embed images with the network of a run: two, to say whether they are the same; a folder, to a file.

    python scripts/embed.py outputs/RUN a.jpg b.jpg                     how far apart, and the same or not
    python scripts/embed.py outputs/RUN a.jpg b.jpg --far 1e-2          at another rate of false accepts
    python scripts/embed.py outputs/RUN ~/photos --out photos.npz       or photos.csv, photos.parquet
    python scripts/embed.py outputs/RUN *.jpg --out photos.npz

Of a folder all images are embedded, at any depth; where it has a folder a class, these are labels. RUN may be a
folder of runs with --by val/auc.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from siamese.commands.arguments import Parser
from siamese.commands.collected import collected, embedded
from siamese.commands.console import Console
from siamese.commands.embedding_files import check_out, write
from siamese.commands.messages import errors_in_one_line
from siamese.commands.trained import add_flags, encoder_of, parsed
from siamese.decoding.names import counted
from siamese.decoding.present import check_files
from siamese.errors import ConfigError, RunError
from siamese.paths import near, with_own_modules

log = logging.getLogger("embed")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("embed", __doc__ or "")
    add_flags(parser)
    add = parser.add_argument
    add("images", type=Path, nargs="+", metavar="IMAGE", help="two image files; with --out a folder, or image files")
    add("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps (default: what the run had)")
    add("--out", type=Path, metavar="FILE", help="write the embeddings to FILE.npz, .csv or .parquet")
    add("--far", metavar="RATE", help="the threshold of this rate of false accepts: 1e-1, 1e-2 or 1e-3 (default: eer)")
    add("--flip", action="store_true", help="average flips, as a run with evaluation.flip does anyway")
    damaged = "files that cannot be decoded (default: refuse, and name them)"
    add("--damaged", choices=("refuse", "skip"), default="refuse", help=damaged)
    asked = parsed(parser, words)
    if asked.out is None:
        for flag, given in (("--flip", asked.flip), ("--damaged skip", asked.damaged == "skip")):
            if given:
                raise ConfigError(f"{flag}: expected beside --out FILE, which the embeddings are written to")
    elif asked.far is not None:
        raise ConfigError(f"--far {asked.far}: compares two images, and --out compares none; leave one of them out")
    return asked


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    with errors_in_one_line():
        with_own_modules()
        logging.basicConfig(level=logging.INFO, handlers=[Console()], format="%(message)s")
        asked = arguments(words)
        if asked.out is None:
            _compare(asked)
        else:
            _write(asked)


def _compare(asked: argparse.Namespace) -> None:
    """Say of two images whether they are the same."""
    if len(asked.images) != 2 or any(image.is_dir() for image in asked.images):
        found = "a folder" if any(image.is_dir() for image in asked.images) else counted(len(asked.images), "image")
        raise ConfigError(f"expected two image files to compare, or --out FILE to write embeddings to; found {found}")
    check_files(asked.images)
    encoder = encoder_of(asked, "embed", asked.device)
    distance = encoder.distance(*asked.images)
    try:
        threshold = encoder.threshold(asked.far)
    except RunError:
        log.info("distance %.4f", distance)  # which is known all the same
        raise
    verdict = "the same" if distance <= threshold.distance else "not the same"
    rate = "at the equal error rate" if asked.far is None else f"at {asked.far} false accepts"
    log.info("distance %.4f: %s (%s, up to %.4f)", distance, verdict, rate, threshold.distance)
    if threshold.far is not None and threshold.tar is not None:
        far, tar = 100 * threshold.far, 100 * threshold.tar
        log.info(
            "of the run's test images it accepts %.2f %% of pairs of two classes, %.2f %% of pairs of one", far, tar
        )


def _write(asked: argparse.Namespace) -> None:
    """Embed a folder or image files into a file."""
    check_out(asked.out)
    given = collected(asked.images)
    encoder = encoder_of(asked, "embed", asked.device)
    thumbnails, skip = asked.out.suffix == ".parquet", asked.damaged == "skip"
    found = embedded(given, encoder, flip=asked.flip or None, skip=skip, thumbnails=thumbnails)
    write(asked.out, found)
    log.info("%s: %s", near(asked.out), found)
