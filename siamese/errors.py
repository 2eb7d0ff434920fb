"""What ends a command: two kinds of errors, each said in one line, and an interrupt."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConfigError(Exception):
    """A command or configuration that cannot be run as it stands (exit status 2)."""


class RunError(Exception):
    """Something that failed while running, through no bug of ours (exit status 1)."""


class Interrupted(BaseException):
    """The user or the system asked the run to stop with a ``signal`` (exit status 128 + signal)."""

    def __init__(self, signal: int) -> None:
        self.signal = signal


def nearest(word: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest of ``choices``, or an empty string."""
    others = [choice for choice in choices if not word.startswith(f"{choice}.")]  # its own group is no correction
    found = difflib.get_close_matches(word, others, n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def several(names: Iterable[object], most: int = 5) -> str:
    """``names`` in a row: the first ``most`` of them, and how many more there are."""
    words = [str(name) for name in names]
    return ", ".join(words[:most]) + f" and {len(words) - most:,} more" * (len(words) > most)
