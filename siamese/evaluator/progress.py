"""How far a long measurement is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich import get_console
from rich.progress import Progress

LONG = 20_000  # rows; fewer are over before a bar is read

Advance = Callable[[int], None]


@contextlib.contextmanager
def measuring() -> Iterator[Callable[[str, int], Advance]]:
    """Gives what is told a name and a number of rows, and gives what is told how many more of them are done. Bars show
    where somebody looks and it takes long, and are gone at the end, however it ends."""
    with Progress(transient=True, disable=not get_console().is_terminal) as bars:

        def begin(what: str, total: int) -> Advance:
            if total < LONG:
                return lambda done: None
            task = bars.add_task(f"measuring: {what}", total=total)
            return lambda done: bars.advance(task, done)

        yield begin
