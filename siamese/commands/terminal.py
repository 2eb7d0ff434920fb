"""The terminal is not the run: output that nobody takes any more ends nothing."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

log = logging.getLogger(__name__)


class Output:
    """A standard stream whose first write that fails (a pipe that was closed, a full disk, a terminal that has gone
    away) is said once, in the log, and after which everything goes nowhere."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:
            self._lost(error)
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())  # what is still held back goes there at the end
        except (OSError, ValueError):
            self._stream = open(os.devnull, "w")  # noqa: SIM115 (lives as long as the process)
        finally:
            os.close(nowhere)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        log.warning("%s was lost (%s); the run goes on, and train.log has everything", self._name, reason)


def keep_going_without() -> None:
    """Let standard output and standard error be lost without ending this process."""
    for name, said in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        if stream is None:  # closed before this process began
            stream = open(os.devnull, "w")  # noqa: SIM115
        if not isinstance(stream, Output):
            setattr(sys, name, Output(stream, said))
