"""The flags of a command, whose complaints are one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from siamese.errors import ConfigError, nearest


class Parser(argparse.ArgumentParser):
    """A parser that raises what is wrong with a command line, with the nearest flag there is.

    Args:
        name: of the command: compare for ``python scripts/compare.py`` and ``siamese-compare``.
        about: the first line of it describes the command; what follows is shown as it is, below the flags.
    """

    def __init__(self, name: str, about: str) -> None:
        head, _, rest = about.partition("\n\n")
        super().__init__(
            prog=f"siamese-{name}",
            description=head,
            epilog=rest,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        hints = [hint for word in message.split() if word.startswith("--") and (hint := nearest(word, flags))]
        raise ConfigError(f"{message}{''.join(hints[:1]) or f'; see {self.prog} --help'}")
