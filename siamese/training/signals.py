"""Signals as a wish to stop."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from siamese.errors import Interrupted
from siamese.runs.directory import log


class StopRequest:
    """Signals as a wish to stop: during training the step in hand is finished and saved first; a
    second signal, or one at any other time, stops at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Handle the signals (again: Lightning puts its own handler in the way when a fit starts)."""
        for number in self._before:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.patient or self.signal is not None:
            raise Interrupted(number)
        self.signal = number
        log.info("%s: stopping after this step (once more: at once)", signal.Signals(number).name)

    def obey(self) -> None:
        """Raise if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)
