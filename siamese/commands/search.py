"""Find the images of an index that are nearest to others.

    python scripts/search.py photos.index query.jpg -k 10
    python scripts/search.py photos.index query.jpg --where label=cat     patterns, as in file names
    python scripts/search.py photos.index query.jpg --threshold 1e-2      "unknown" instead of what is too far
    python scripts/search.py photos.index query.jpg --json                or --open, which shows a picture
    python scripts/search.py photos.index --serve                         a page in the browser

Files with the same content are found as one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siamese.commands.arguments import Parser
from siamese.commands.console import Console
from siamese.commands.messages import errors_in_one_line
from siamese.decoding.names import one_line, visible
from siamese.decoding.present import check_files
from siamese.errors import ConfigError, nearest
from siamese.paths import near, with_own_modules
from siamese.runs.files import atomic

if TYPE_CHECKING:
    from siamese.index import Found, Index

FIELDS = ("label", "part", "path")
PORT = 8765
FOUND = 10

log = logging.getLogger("search")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("search", __doc__ or "")
    add = parser.add_argument
    add("index", type=Path, metavar="INDEX", help="made by scripts/index.py")
    add("images", type=Path, nargs="*", metavar="IMAGE", help="what to look for")
    add("-k", type=int, metavar="N", help=f"how many to find (default: {FOUND}, or all where there are fewer)")
    where = "only images with this label, part (train, val, test, …) or path"
    add("--where", action="append", default=[], metavar="FIELD=PATTERN", help=where)
    threshold = "find nothing beyond the run's threshold at this rate of false accepts: 1e-1, 1e-2, 1e-3, or eer"
    add("--threshold", metavar="RATE", help=threshold)
    add("--exact", action="store_true", help="look at all images, whatever the kind of index")
    shows = parser.add_mutually_exclusive_group()
    shows.add_argument("--json", action="store_true", help="print JSON")
    shows.add_argument("--picture", type=Path, metavar="FILE", help="draw what was found too: a PNG file")
    shows.add_argument("--open", action="store_true", help="draw it and show it")
    shows.add_argument("--serve", action="store_true", help="a page on this machine, where images are dropped")
    add("--port", type=int, metavar="PORT", help=f"of the page (default: {PORT}, or the next that is free)")
    add("--run", type=Path, metavar="RUN", help="where the run of the index is now")
    add("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps (default: what the run had)")
    add("--trust", action="append", default=[], metavar="MODULE", help="a module of yours that the run's model is of")
    asked = parser.parse_args(words)
    if asked.serve and asked.images:
        raise ConfigError(f"{asked.images[0]}: --serve takes no images; they are dropped on its page")
    if asked.serve and asked.exact:
        raise ConfigError("--exact: is for images beside it; the page of --serve looks as the kind of index does")
    if asked.port is not None and not asked.serve:
        raise ConfigError(f"--port {asked.port}: is for --serve")
    if not asked.serve and not asked.images:
        raise ConfigError("expected images to look for, or --serve")
    if asked.picture is not None and asked.picture.suffix != ".png":
        raise ConfigError(f"--picture {asked.picture}: expected a name that ends in .png")
    if asked.picture is not None and asked.picture.exists():
        raise ConfigError(f"--picture {asked.picture}: already exists; choose another name")
    return asked


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    with errors_in_one_line():
        with_own_modules()
        asked = arguments(words)
        logging.basicConfig(level=logging.INFO, handlers=[Console()], format="%(message)s")
        where = conditions(asked.where)
        check_files(asked.images)
        from siamese.index import open_index

        index = open_index(asked.index)
        if asked.serve:
            _serve(index, asked, where)
        else:
            _search(index, asked, where)


def conditions(given: Sequence[str]) -> dict[str, str]:
    """What ``--where`` asks for, by field.

    Raises:
        ConfigError: for what is no condition, and a field asked for twice.
    """
    found: dict[str, str] = {}
    for one in given:
        name, equals, pattern = one.partition("=")
        if not equals or name not in FIELDS:
            hint = nearest(name, FIELDS)
            raise ConfigError(f"--where {one}: expected FIELD=PATTERN with one of {', '.join(FIELDS)}{hint}")
        if name in found:
            raise ConfigError(f"--where {one}: {name} is asked for twice")
        found[name] = pattern
    return found


def _search(index: Index, asked: argparse.Namespace, where: dict[str, str]) -> None:
    from rich import get_console

    from siamese.index.network import network_of

    within = None if asked.threshold is None else index.threshold(asked.threshold)
    k = _count(index, asked.k, where)  # before the network is loaded
    encoder = network_of(index, "search", run=asked.run, device=asked.device, trust=asked.trust)
    vectors = encoder.embed(asked.images, flip=index.manifest.flip)
    results = [index.find(vector, k, where=where, within=within, exact=asked.exact) for vector in vectors]
    if asked.json:
        told = [_told(query, found, within) for query, found in zip(asked.images, results, strict=True)]
        text = json.dumps(told if len(told) > 1 else told[0], indent=2)
        get_console().out(text, highlight=False)  # which ends quietly where the program that reads it has ended
        return
    for query, found in zip(asked.images, results, strict=True):
        _print(query, found, within, asked.threshold)
    if asked.picture or asked.open:
        _draw(index, asked, results)


def _count(index: Index, asked: int | None, where: dict[str, str]) -> int:
    """How many to find: as many as were asked for, or else ten, and fewer where there are no more."""
    if asked is not None:
        index.check(asked, where)
        return asked
    return min(FOUND, int(index.check(1, where).sum()))


def _told(query: Path, found: Sequence[Found], within: float | None) -> dict[str, Any]:
    """What was found, as JSON has it."""
    return {
        "query": _text(query),
        "threshold": within,
        "neighbours": [
            {
                "path": _text(one.path),
                "label": one.label or None,
                "distance": one.distance,
                "similarity": one.similarity,
                "copies": [_text(copy) for copy in one.copies],
            }
            for one in found
        ],
    }


def _print(query: Path, found: Sequence[Found], within: float | None, rate: str | None) -> None:
    from rich import get_console
    from rich.table import Table
    from rich.text import Text

    if not found:
        log.info("%s: unknown; nothing is within %.4f, the threshold at %s", one_line(query), within, rate)
        return
    common = Path(os.path.commonpath([one.path.parent for one in found]))
    log.info("%s, found in %s", one_line(query), one_line(near(common)))
    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right")
    table.add_column("distance", justify="right")
    table.add_column("similarity", justify="right")
    if any(one.label for one in found):
        table.add_column("label", overflow="fold")
    table.add_column("file", overflow="fold")
    for rank, one in enumerate(found, 1):
        copies = f" (and {len(one.copies)} with the same content)" if one.copies else ""
        label = [Text(one_line(one.label))] if len(table.columns) == 5 else []
        file = Text(one_line(one.path.relative_to(common)) + copies)
        table.add_row(str(rank), f"{one.distance:.4f}", f"{one.similarity:.4f}", *label, file)
    get_console().print(table)


def _draw(index: Index, asked: argparse.Namespace, results: Sequence[Sequence[Found]]) -> None:
    from siamese.index.picture import picture

    drawn = picture(index, asked.images, results)
    out = asked.picture or Path(tempfile.mkdtemp(prefix="siamese-search-")) / "found.png"
    with atomic(out) as file:
        file.write(drawn)
    log.info("%s", near(out))
    if asked.open and not webbrowser.open(out.absolute().as_uri()):
        log.warning("no program was found here that shows it")


def _serve(index: Index, asked: argparse.Namespace, where: dict[str, str]) -> None:
    from siamese.index.network import network_of
    from siamese.serve.server import check_installed, listening, serve

    check_installed()
    from siamese.serve.application import MOST

    threshold = None if asked.threshold is None else (asked.threshold, index.threshold(asked.threshold))
    k = _count(index, asked.k, where)
    if k > MOST:
        raise ConfigError(f"-k {k}: expected at most {MOST} with --serve")
    with listening(asked.port, PORT) as listener:
        encoder = network_of(index, "search", run=asked.run, device=asked.device, trust=asked.trust)
        serve(index, encoder, listener, k=k, where=where, threshold=threshold)


def _text(path: Path) -> str:
    return visible([str(path)])[0]
