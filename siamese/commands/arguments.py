"""The flags of a command, whose complaints are one line."""

from __future__ import annotations

import argparse
import itertools
import textwrap
from typing import NoReturn

from siamese.errors import ConfigError, nearest


class _Paragraphs(argparse.HelpFormatter):
    """Help as wide as the terminal: paragraphs are wrapped between words, and what is said beside a command goes below
    one that leaves no room for it."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for indented, block in itertools.groupby(text.splitlines(), lambda line: line.startswith(" ") or not line):
            if indented:
                lines += itertools.chain.from_iterable(_below(line, width) for line in block)
            else:
                lines += textwrap.wrap(" ".join(block), width, break_long_words=False, break_on_hyphens=False)
        return "\n".join(lines)


def _below(line: str, width: int) -> list[str]:
    """``line``, or its command and below that what is said of it, where it is longer than ``width``."""
    command, gap, about = line.strip().partition("  ")
    return [f"    {command}", f"        {about.strip()}"] if gap and len(line) > width else [line]


class Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong with a command line, with the nearest flag there is.

    Args:
        name: of the command: compare for ``python scripts/compare.py`` and ``siamese-compare``.
        about: the first line of it describes the command; what follows is shown below the flags, indented lines as
            they are.
    """

    def __init__(self, name: str, about: str) -> None:
        head, _, rest = about.partition("\n\n")
        super().__init__(
            prog=f"siamese-{name}",
            description=head,
            epilog=rest,
            formatter_class=_Paragraphs,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        words = [word for part in message.split() if (word := part.rstrip(":,")).startswith("--") and word not in flags]
        hints = [hint for word in words if (hint := nearest(word, flags))]
        raise ConfigError(f"{message}{''.join(hints[:1]) or f'; see {self.prog} --help'}")
