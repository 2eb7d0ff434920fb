"""What a sweep shows while it runs, and the table it ends with."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import rich
from rich.live import Live
from rich.table import Table
from rich.text import Text

from siamese.errors import RunError
from siamese.runs.clock import span
from siamese.runs.read import read_status
from siamese.runs.state import State, recorded
from siamese.sweep.job import stop
from siamese.sweep.plan import Planned

EVERY = 0.5  # seconds between two looks
SIGNALS = (signal.SIGINT, signal.SIGTERM)
COLOURS = {"completed": "green", "failed": "red", "killed": "red", "interrupted": "yellow", "running": "cyan"}


class Watch(threading.Thread):
    """Follows the jobs by their directories, whichever launcher runs them and wherever; passes on
    Ctrl-C (the process has blocked it) as the wish that all jobs save and stop, and a second one as
    an end."""

    def __init__(self, sweep: Path, jobs: Sequence[Planned], total: int) -> None:
        super().__init__(name="sweep", daemon=True)
        self.sweep, self.jobs, self.total = sweep, jobs, total
        self.signals = 0
        self._over = threading.Event()
        self._began = time.monotonic()
        self._seen = {job.folder: self._written(job) for job in jobs}
        self._running: dict[str, str] = {}
        self._ended: set[str] = set()

    def run(self) -> None:
        console = rich.get_console()
        live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        with live or contextlib.nullcontext():
            while not self._over.wait(EVERY):
                self._listen()
                self._look()
                if live is not None:
                    live.update(self._shown(), refresh=True)
        self._look()

    def close(self) -> None:
        """Stop watching, once what has ended was said."""
        self._over.set()
        self.join()

    def _listen(self) -> None:
        if not any(number in signal.sigpending() for number in SIGNALS):
            return
        signal.sigwait(SIGNALS)
        self.signals += 1
        if self.signals == 1:
            rich.print("interrupted: jobs finish their step and save (once more: at once)")
            stop(self.sweep, "interrupted")
        else:
            _thread.interrupt_main()

    def _written(self, job: Planned) -> int:
        try:
            return (self.sweep / job.folder / "status.json").stat().st_mtime_ns
        except OSError:
            return 0

    def _look(self) -> None:
        for job in self.jobs:
            written = self._written(job)
            if written == self._seen[job.folder]:
                continue
            self._seen[job.folder] = written
            try:
                status = read_status(self.sweep / job.folder)
            except RunError:
                continue
            if status.get("state") == "running":
                where = f"epoch {status['epoch']}" if "epoch" in status else "starting"
                self._running[job.folder] = f"{job.title}  {where}"
                self._ended.discard(job.folder)  # Ray and queues try again
                continue
            self._running.pop(job.folder, None)
            self._ended.add(job.folder)
            self._say(job, recorded(self.sweep / job.folder))

    def _say(self, job: Planned, found: State) -> None:
        place = self.total - len(self.jobs) + len(self._ended)
        taken = "" if found.seconds is None else span(found.seconds)
        parts = [f"[{place}/{self.total}]", found.name, job.title, taken, _metric(found)]
        parts += [found.says or "", self._left()]
        rich.get_console().print(
            Text("  ".join(part for part in parts if part), style=COLOURS.get(found.name, "")), soft_wrap=True
        )

    def _left(self) -> str:
        left = len(self.jobs) - len(self._ended)
        if not left or not self._ended:
            return ""
        return f"({left} left, about {span((time.monotonic() - self._began) / len(self._ended) * left)})"

    def _shown(self) -> Text:
        lines = [f"{len(self._ended)} of {len(self.jobs)} jobs done {self._left()}", *self._running.values()]
        return Text("\n".join(lines), no_wrap=True, overflow="ellipsis")


def table(jobs: Sequence[Planned], states: Mapping[str, State]) -> Table:
    """Every job with its state, its time of training and validation, and its main metric."""
    metrics = {found.metric[0] for found in states.values() if found.metric}
    keys = list(dict.fromkeys(key for job in jobs for key in job.varied))
    out = Table(box=None, pad_edge=False, header_style="bold")
    for key in keys or ["job"]:
        out.add_column(key, justify="right" if keys else "left", overflow="fold")
    out.add_column("state")
    out.add_column("time", justify="right")
    out.add_column(" or ".join(sorted(metrics)) or "metric", justify="right")
    out.add_column("", overflow="fold")
    for job in jobs:
        found = states[job.folder]
        cells = [Text(job.varied.get(key, "")) for key in keys] or [Text(job.title)]
        taken = "–" if found.seconds is None else span(found.seconds)
        cells += [Text(found.name, style=COLOURS.get(found.name, "")), Text(taken)]
        out.add_row(*cells, f"{found.metric[1]:.4f}" if found.metric else "–", Text(found.says or ""))
    return out


def _metric(found: State) -> str:
    return f"{found.metric[0]} {found.metric[1]:.4f}" if found.metric else ""
