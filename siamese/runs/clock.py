"""Time, as it is recorded and as it is said."""

from __future__ import annotations

import time


def now() -> str:
    """The local time, with its offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def span(seconds: float) -> str:
    """``seconds`` as a person says them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
