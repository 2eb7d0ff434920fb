"""Make an index of images, which scripts/search.py looks in, and change it.

    python scripts/index.py outputs/RUN ~/photos --out photos.index
    python scripts/index.py photos.index                            what is in it
    python scripts/index.py photos.index --add ~/more               what is new there, or has changed
    python scripts/index.py photos.index --remove '*/blurred/*'
    python scripts/index.py photos.index --check                    its own files, and the images that it is of

RUN may be a folder of runs with --by val/auc. An index is a folder. It is whole whenever it is read: what is
interrupted keeps what was added so far, and --add goes on.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siamese.commands.arguments import Parser
from siamese.commands.collected import Collected, collected
from siamese.commands.console import Console
from siamese.commands.embedding_files import check_free
from siamese.commands.messages import errors_in_one_line
from siamese.commands.trained import add_flags, encoder_of
from siamese.config.words import pasteable
from siamese.decoding.names import counted, few, one_line
from siamese.errors import ConfigError, RunError, nearest
from siamese.paths import near, shown, with_own_modules
from siamese.runs.choose import chosen_run

if TYPE_CHECKING:
    from siamese.encoder import Encoder
    from siamese.index import Index

log = logging.getLogger("index")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("index", __doc__ or "")
    add_flags(parser)
    add = parser.add_argument
    add("images", type=Path, nargs="*", metavar="IMAGE", help="a folder, or image files, for --out")
    add("--out", type=Path, metavar="INDEX", help="make this index of them; RUN is what embeds them")
    kind = "flat (default): all are looked at; hnsw, ivfpq: faster, and some are missed, as is then measured"
    add("--kind", metavar="KIND", help=kind)
    add("--flip", action="store_true", help="average flips, as a run with evaluation.flip does anyway")
    add("--damaged", choices=("refuse", "skip"), help="files that cannot be decoded (default: refuse, and name them)")
    change = parser.add_mutually_exclusive_group()
    change.add_argument(
        "--add", type=Path, nargs="+", metavar="IMAGE", help="a folder, or image files; RUN is an index"
    )
    change.add_argument("--remove", metavar="PATTERN", help="images whose whole path fits, such as '*/blurred/*'")
    change.add_argument("--check", action="store_true", help="compare it with its checksums and with the images")
    add("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps (default: what the run had)")
    add("--run", dest="moved", type=Path, metavar="RUN", help="--add: where the run of the index is now")
    parser.set_defaults(checkpoint=None)  # which is best where an index is made, and the index's own later
    asked = parser.parse_args(words)
    changes = {"--add": asked.add, "--remove": asked.remove, "--check": asked.check or None}
    change_asked = next((flag for flag, given in changes.items() if given is not None), None)
    if asked.out is not None:
        if change_asked or asked.moved:
            raise ConfigError(f"{change_asked or '--run'}: is for an index that there is, and --out makes one")
        if not asked.images:
            raise ConfigError(f"--out {asked.out}: expected a folder or image files beside it, found none")
        return asked
    if asked.images:
        raise ConfigError(f"{asked.images[0]}: expected --out INDEX beside images to make an index of, or --add before")
    making = {"--kind": asked.kind, "--flip": asked.flip or None, "--by": asked.by, "--checkpoint": asked.checkpoint}
    if flag := next((flag for flag, given in making.items() if given is not None), None):
        raise ConfigError(f"{flag}: is for an index that --out makes")
    adding = {
        "--damaged": asked.damaged,
        "--device": asked.device,
        "--trust": asked.trust or None,
        "--run": asked.moved,
    }
    if asked.add is None and (flag := next((flag for flag, given in adding.items() if given is not None), None)):
        raise ConfigError(f"{flag}: is for images that --add embeds{' or --out' if flag != '--run' else ''}")
    return asked


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    with errors_in_one_line():
        with_own_modules()
        asked = arguments(words)
        logging.basicConfig(level=logging.INFO, handlers=[Console()], format="%(message)s")
        if asked.out is not None:
            _make(asked)
            return
        from siamese.index import open_index

        index = open_index(asked.run)
        if asked.add is not None:
            _add(index, asked)
        elif asked.remove is not None:
            _remove(index, asked.remove)
        elif asked.check:
            _check(index)
        else:
            _describe(index)


def _make(asked: argparse.Namespace) -> None:
    from siamese.index.building import created
    from siamese.index.nearest import KINDS, faiss
    from siamese.index.store import MANIFEST

    faiss()  # before what takes long
    kind, asked.checkpoint = asked.kind or KINDS[0], asked.checkpoint or "best"
    if (asked.out / MANIFEST).is_file():
        raise ConfigError(
            f"--out {asked.out}: already exists; --add FOLDER adds to an index, and goes on where making it stopped"
        )
    check_free(asked.out)
    if kind not in KINDS:
        raise ConfigError(f"--kind {kind}: expected one of {', '.join(KINDS)}{nearest(kind, KINDS)}")
    asked.run = chosen_run(asked.run.expanduser(), asked.by)
    given = collected(asked.images)
    encoder = encoder_of(asked, "index", asked.device)
    _fill(created(asked.out, encoder, kind, asked.flip), encoder, given, asked.damaged)


def _add(index: Index, asked: argparse.Namespace) -> None:
    from siamese.index.network import network_of

    given = collected(asked.add)
    encoder = network_of(index, "index", run=asked.moved, device=asked.device, trust=asked.trust)
    _fill(index, encoder, given, asked.damaged)


def _fill(index: Index, encoder: Encoder, given: Collected, damaged: str | None) -> None:
    from siamese.index.building import Files, add, recall, structured

    paths = {_whole(path): i for i, path in enumerate(given.paths)}  # one that is named twice is there once
    labels = [given.class_names[given.labels[i]] if given.labels[i] >= 0 else "" for i in paths.values()]
    files = Files([*paths], labels, [str(given.parts[i]) for i in paths.values()])
    index, change = add(index, encoder, files, skip=damaged == "skip")
    if change.damaged:
        reasons = few([f"{one_line(path)}: {reason}" for path, reason in change.damaged.items()])
        log.warning("left out %s: %s", counted(len(change.damaged), "damaged file"), reasons)
    index = structured(index)
    said = [f"{change.added:,} added"]
    said += [f"{change.replaced:,} replaced, which had changed"] if change.replaced else []
    said += [f"{change.already:,} there already"] if change.already else []
    log.info("%s: %s", index.name, ", ".join(said))
    if index.manifest.kind != "flat" and len(index):
        log.info(
            "%s finds %.1f %% of the 10 nearest that looking at all finds", index.manifest.kind, 100 * recall(index)
        )
    _describe(index)


def _whole(path: Path) -> Path:
    """``path`` from the root, without ``..`` where that leads to the same file (of a folder that is a link it may not):
    one image has one path, wherever it is added from."""
    absolute = path.absolute()
    plain = Path(os.path.normpath(absolute))
    return plain if ".." in absolute.parts and plain.exists() and plain.samefile(absolute) else absolute


def _remove(index: Index, pattern: str) -> None:
    from siamese.index.building import remove

    index, count = remove(index, pattern)
    log.info("%s: %s removed, %s left", index.name, counted(count, "image"), f"{len(index):,}")


def _check(index: Index) -> None:
    from siamese.index.building import check

    found = check(index)
    if found.damaged:
        raise RunError(f"{index.name}: damaged: {few(found.damaged)}; build it anew")
    for what, paths in (("not there any more", found.missing), ("changed since", found.changed)):
        if paths:
            log.warning("%s %s: %s", counted(len(paths), "image is", "images are"), what, few(paths))
    if found.changed:
        log.info("--add their folder takes them in as they are now")
    log.info("%s: its own files are what was written; %s", index.name, counted(len(index), "image"))


def _describe(index: Index) -> None:
    manifest = index.manifest
    size = sum(of["bytes"] for _, of in manifest.files())
    labels = index.stored.columns["labels"]
    classes = len({labels[i] for i in index.stored.present.nonzero()[0]} - {""})
    log.info(
        "%s: %s, %s, %s dimensions, %s, %.1f MB",
        index.name,
        counted(len(index), "image"),
        counted(classes, "class", "classes") if classes else "no classes",
        manifest.dimensions,
        manifest.kind,
        size / 1e6,
    )
    log.info(
        "  embedded by %s (%s.ckpt%s)", manifest.run, manifest.checkpoint, ", flips averaged" if manifest.flip else ""
    )
    log.info("  %s %s IMAGE", shown("search"), pasteable(near(index.stored.folder)))
