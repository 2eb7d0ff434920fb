"""Log records on the terminal."""

from __future__ import annotations

import logging


class Console(logging.Handler):
    """Log records on the terminal, above a live progress bar rather than through it."""

    def emit(self, record: logging.LogRecord) -> None:
        import rich

        if not getattr(record, "terminal", True):
            return  # it is for train.log
        try:
            message = self.format(record)
            style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > 30 else None
            rich.get_console().print(message, style=style, markup=False, highlight=False, soft_wrap=True)
        except Exception:
            self.handleError(record)
