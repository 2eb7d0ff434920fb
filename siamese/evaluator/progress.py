"""How far a long measurement is."""

from __future__ import annotations

from collections.abc import Callable

from rich import get_console
from rich.progress import Progress

LONG = 20_000  # rows; fewer are over before a bar is read


def measuring(what: str, total: int) -> Callable[[int], None]:
    """What is told how many more of ``total`` rows are done; it shows a bar where somebody looks and it takes long."""
    if total < LONG or not get_console().is_terminal:
        return lambda done: None
    bar = Progress(transient=True)
    task, left = bar.add_task(f"measuring: {what}", total=total), total
    bar.start()

    def advance(done: int) -> None:
        nonlocal left
        left -= done
        bar.advance(task, done)
        if left <= 0:
            bar.stop()

    return advance
