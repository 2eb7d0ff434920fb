"""What a collection of images holds, without training on it.

python scripts/data.py data=image_folder data.root=~/photos
python scripts/data.py data=image_folder data.root=~/photos --near
python scripts/data.py --cache

takes train.py's words. Prints images, classes, sizes, formats, what was skipped and why, what is in it twice and how it
would be split, and writes the same with examples of every class as one page.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from siamese.commands.arguments import Parser
from siamese.commands.messages import errors_in_one_line
from siamese.compare.tables import as_csv
from siamese.config.targets import check_handed
from siamese.config.validate import validate
from siamese.config.words import understood
from siamese.errors import ConfigError, nearest
from siamese.paths import CONF, near, with_own_modules
from siamese.runs.files import atomic


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = Parser("data", __doc__ or "")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as after train.py")
    parser.add_argument(
        "--near",
        type=int,
        nargs="?",
        const=2,
        metavar="BITS",
        help="find images that look alike too, whose perceptual hashes differ in at most so many of 64 bits (2)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="outputs/data/TIME by default")
    parser.add_argument("--cache", action="store_true", help="list the decoded collections that are kept")
    parser.add_argument("--clear", metavar="NAME", help="with --cache: remove one of them, or all")
    with errors_in_one_line():
        with_own_modules()
        asked = parser.parse_args(arguments)
        asked.words = understood(asked.words)
        if asked.near is not None and not 0 <= asked.near <= 16:
            raise ConfigError(f"--near {asked.near}: expected 0 to 16 of 64 bits")
        if asked.clear and not asked.cache:
            raise ConfigError("--clear: expected --cache before it")
        if asked.cache:
            _cache(asked.words, asked.clear)
        else:
            out = asked.out or Path("outputs/data") / time.strftime("%Y-%m-%d_%H-%M-%S")
            typed = sys.argv[1:] if arguments is None else list(arguments)
            _look(asked.words, asked.near, out, shlex.join(["python", "scripts/data.py", *typed]))


def _look(words: Sequence[str], bits: int | None, out: Path, command: str) -> None:
    from hydra import compose, initialize_config_dir
    from rich.console import Console

    from siamese.survey import look
    from siamese.survey.page import render
    from siamese.survey.tables import tables

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = validate(compose("train", [*words, "name=data"]))
    check_handed(config.data)
    survey = look(config.data, config.seed, bits)
    console = Console()
    for shown in tables(survey):
        console.print(shown)
        console.print()
    with atomic(out / "data.html") as file:
        file.write(render(survey, command, time.strftime("%Y-%m-%d %H:%M")).encode("utf-8", "replace"))
    if found := survey.duplicate_rows():
        with atomic(out / "duplicates.csv") as file:
            file.write(as_csv(found).encode())
    console.print(f"{near(out / 'data.html')}", soft_wrap=True)


def _cache(words: Sequence[str], remove: str | None) -> None:
    from hydra import compose, initialize_config_dir
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from siamese.data.files.listing import cached_collections, clear

    with initialize_config_dir(str(CONF), version_base="1.3"):
        cache_dir = validate(compose("train", [*words, "name=data"])).data.cache_dir
    found = cached_collections(cache_dir)
    if remove is not None:
        chosen = [one for one in found if remove in ("all", one.folder.name)]
        if not chosen:
            names = [one.folder.name for one in found]
            raise ConfigError(f"--clear {remove}: no such collection; expected all or a name{nearest(remove, names)}")
        for one in chosen:
            clear(one.folder)
            print(f"removed {near(one.folder)}: {one.bytes / 1e6:,.0f} MB of {one.root or 'a damaged collection'}")
        return
    table = Table(box=None, pad_edge=False)
    for column, justify in (("name", "left"), ("of", "left"), ("size", "right"), ("images", "right"), ("MB", "right")):
        table.add_column(column, justify="right" if justify == "right" else "left", overflow="fold")
    table.add_column("last used")
    for one in found:
        size = "x".join(map(str, one.size)) if one.size else ""
        used = time.strftime("%Y-%m-%d", time.localtime(one.used))
        of = Text(one.root or "damaged, or of an earlier version")
        table.add_row(one.folder.name, of, size, f"{one.images:,}", f"{one.bytes / 1e6:,.0f}", used)
    Console().print(table if found else "no decoded collection is kept")
