"""A page to look around in the embedding of a run: the map, nearest neighbours, failures.

    python scripts/explore.py outputs/RUN
    python scripts/explore.py outputs/RUN --out shown.html --no-images

Writes RUN/explore.html, one file that opens offline. The thumbnails are the run's own images, loaded from where it had
them; without them it needs only the run directory.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from siamese.commands.arguments import Parser
from siamese.commands.embedding_files import check_free
from siamese.commands.messages import errors_in_one_line
from siamese.config.targets import check_handed
from siamese.config.trust import refuse_strangers
from siamese.config.words import pasteable
from siamese.errors import ConfigError, RunError
from siamese.paths import near, shown, with_own_modules
from siamese.runs.files import atomic
from siamese.runs.read import read_config


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("explore", __doc__ or "")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run directory")
    add("--out", type=Path, metavar="FILE", help="RUN/explore.html by default, which is then written anew")
    add("--no-images", action="store_true", help="without thumbnails, as where the images are gone")
    add("--root", type=Path, metavar="PATH", help="where the images are now")
    trust = "a module of yours that the run names targets of"
    add("--trust", action="append", default=[], metavar="MODULE", help=trust)
    add("--config-dir", action="append", default=[], type=Path, metavar="DIR", help="a folder of options of yours")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """The command line."""
    with errors_in_one_line():
        with_own_modules()
        asked = arguments(words)
        typed = sys.argv[1:] if words is None else list(words)
        _explore(asked, shlex.join(["python", "scripts/explore.py", *typed]))


def _explore(asked: argparse.Namespace, command: str) -> None:
    config = read_config(asked.run, str(asked.run))
    out = asked.out or asked.run / "explore.html"
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; expected a file to write, such as {out / 'explore.html'}")
    if asked.out is not None:
        check_free(out)
    from siamese.explore.gather import maps, neighbours, read_embedded, thumbnails
    from siamese.explore.page import plotly_script, render

    plotly_script()  # before what takes long
    of, sheets = read_embedded(asked.run), None
    if not asked.no_images:
        refuse_strangers(config, asked.trust, asked.config_dir, f"{shown('explore')} {pasteable(asked.run)} --trust ")
        if asked.root is not None:
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=str(asked.root)))
        try:
            check_handed(config.data)
            sheets = thumbnails(of, config)
        except (ConfigError, RunError) as error:
            hint = (
                "" if "--no-images" in str(error) else "; --root PATH if they are elsewhere, --no-images without them"
            )
            raise type(error)(f"{error}{hint}") from None
    planes = maps(of, config.seed)
    title, created = asked.run.resolve().name, time.strftime("%Y-%m-%d %H:%M")
    page = render(of, planes, neighbours(of), sheets, title, command, created).encode("utf-8", "replace")
    with atomic(out) as file:
        file.write(page)
    pictures = f"thumbnails of {sheets.edge} pixels" if sheets else "no thumbnails"
    print(f"{near(out)}: {len(page) / 1e6:.1f} MB, {len(of.ids):,} images, {pictures}")
