"""Signals as a wish to stop."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

from siamese.errors import Interrupted

log = logging.getLogger(__name__)


class StopRequest:
    """Signals as a wish to stop: during training the step in hand is finished and saved first; a
    second signal, or one at any other time, stops at once. A terminal that goes away stops nothing."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        self._before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Handle the signals (again: Lightning puts its own handler in the way when a fit starts)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        signal.signal(signal.SIGHUP, self._hung_up)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.patient or self.signal is not None:
            raise Interrupted(number)
        self.signal = number
        log.info("%s: stopping after this step (once more: at once)", signal.Signals(number).name)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        log.warning("the terminal has gone away; the run goes on, and train.log has everything")

    def obey(self) -> None:
        """Raise if a signal has come."""
        if self.signal is not None:
            raise Interrupted(self.signal)
