"""How far naive accumulation, and accumulation with a memory, are from the gradient of one large batch.

    python scripts/accumulation.py loss=triplet_koleo data=digits model=conv_small

takes train.py's words. One effective batch, data.batch_size × trainer.accumulate_grad_batches tuples, is cut
into ever more micro-batches; for each cut the gradients that naive accumulation and accumulation with a memory
(scope=window) give are compared with the exact one, term by term, at initialisation and after training for
trainer.max_epochs as the words say. Writes accumulation.csv and accumulation.png, and prints a table: means over
batches with their 95 % t intervals.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import sys
import textwrap
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from siamese.commands.arguments import Parser
from siamese.commands.messages import errors_in_one_line
from siamese.compare.tables import as_csv
from siamese.config.words import understood
from siamese.errors import ConfigError
from siamese.palette import LINES
from siamese.paths import CONF, with_own_modules

STATES = ("at initialisation", "after training")
MEANS = ("value", "exact_value", "cosine", "norm_ratio")
COLUMNS = ("state", "accumulation", "term", "micro_batch", "window", "batches")


def study(words: Sequence[str], batches: int, asked: list[int] | None, out: Path) -> list[dict[str, Any]]:
    """Measure, and return one row of means for each state, way to accumulate, term and window."""
    import pytorch_lightning as pl
    from hydra import compose, initialize_config_dir
    from lightning_fabric.utilities import move_data_to_device
    from rich.console import Console
    from rich.progress import track

    from siamese.data import load
    from siamese.training.build import build, make_trainer, split_data
    from siamese.training.check import Command, check
    from siamese.training.gradient_study.study import Measured, mean, measure

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = check(Command(compose("train", [*words, "name=accumulation", "callbacks.progress_bar=false"])), out)
    if config.data.batch_size == "auto":
        raise ConfigError("data.batch_size=auto: this measures cuts of its own; expected a number")
    effective = config.data.batch_size * config.trainer.accumulate_grad_batches
    windows = asked or [2**i for i in range(20) if effective >= 4 * 2**i]
    if bad := [window for window in windows if window < 1 or effective // window < 2]:
        raise ConfigError(
            f"--windows {bad[0]}: expected cuts of {effective} tuples (data.batch_size × "
            "trainer.accumulate_grad_batches) into micro-batches of at least 2"
        )
    if config.device.devices > 1:
        raise ConfigError(f"device.devices={config.device.devices}: expected 1, this measures on one device")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    source = load(config.data, config.seed)
    whole = build_data(source, config, effective)
    if len(whole.loader) < 2:
        raise ConfigError(f"{effective} tuples at once: an epoch has no two such batches to compare")
    data = split_data(config, source)
    module = build(config, data)
    rows: list[dict[str, Any]] = []
    for state, epoch in zip(STATES, (0, config.trainer.max_epochs), strict=True):
        trainer = make_trainer(config, out, [])
        if state == STATES[1]:
            with Console(stderr=True).status(f"training for {config.trainer.max_epochs} epochs"):
                trainer.fit(module, datamodule=data)
        module.trainer = trainer
        trainer.precision_plugin.convert_module(module).to(trainer.strategy.root_device).train()
        found: dict[tuple[str, str, int], list[Measured]] = defaultdict(list)
        drawn = itertools.islice(large_batches(whole, epoch), batches)
        for batch in track(drawn, state, total=batches, transient=True, disable=not sys.stdout.isatty()):
            moved = whole.on_after_batch_transfer(move_data_to_device(batch, module.device), 0)
            reference = config.trainer.accumulate_grad_batches
            for one in measure(module.learner, moved, windows, reference):
                found[one.accumulation, one.term, one.window].append(one)
        for (way, term, window), ones in found.items():
            means = {name: mean([getattr(one, name) for one in ones]) for name in MEANS}
            row = dict(zip(COLUMNS, (state, way, term, effective / window, window, len(ones)), strict=True))
            rows.append(row | {f"{name}{end}": v for name, m in means.items() for end, v in zip(ENDS, m, strict=True)})
    return rows


ENDS = ("", "_low", "_high")


def build_data(source: Any, config: Any, batch_size: int) -> Any:
    """The data in batches of ``batch_size`` tuples, in the same order and with the same draws."""
    import dataclasses

    from siamese.training.build import split_data

    larger = dataclasses.replace(config.data, batch_size=batch_size)
    return split_data(dataclasses.replace(config, data=larger), source)


def large_batches(data: Any, epoch: int) -> Iterator[Any]:
    """The full batches of ``epoch`` and of those that follow."""
    for number in itertools.count(epoch):
        data.loader.epoch = lambda number=number: number
        full = (batch for batch in data.loader if len(batch.labels) == data.loader.batch_size * data.layout.images)
        yield from full


def tables(rows: list[dict[str, Any]]) -> Iterator[Any]:
    """The rows as rich shows them, a table a state: means, and the half width of what they are compared by."""
    from rich.table import Table

    for state in STATES:
        shown = Table("", "term", "window", "value", "exact", "cosine", "norm ratio", title=state, title_justify="left")
        before = None
        for row in (row for row in rows if row["state"] == state):
            values = [f"{row[name]:.4f}" for name in ("value", "exact_value")]
            compared = [f"{row[name]:.3f} ± {row[f'{name}_high'] - row[name]:.3f}" for name in ("cosine", "norm_ratio")]
            kind = (row["accumulation"], row["window"])
            cut = f"{row['window']} × {row['micro_batch']:g}"
            shown.add_row("" if kind == before else row["accumulation"], row["term"], cut, *values, *compared)
            before = kind
        yield shown


STYLES = {"naive": ("-", "o"), "memory": ("--", "s")}


def figure(rows: list[dict[str, Any]], title: str) -> Any:
    """Cosine with the exact gradient against the window, a line a term, a panel a state."""
    from matplotlib.figure import Figure

    terms = list(dict.fromkeys(row["term"] for row in rows))
    drawn = Figure(figsize=(9, 5), layout="constrained")
    panels = drawn.subplots(1, 2, sharey=True)
    for panel, state in zip(panels, STATES, strict=True):
        for (way, (line, marker)), (colour, term) in itertools.product(
            STYLES.items(), zip(itertools.cycle(LINES), terms, strict=False)
        ):
            own = [r for r in rows if (r["state"], r["accumulation"], r["term"]) == (state, way, term)]
            if not own:
                continue
            x, y = [row["window"] for row in own], [row["cosine"] for row in own]
            label = {"koleo": "KoLeo", "loss": "whole loss"}.get(term, term) + f", {way}"
            panel.plot(x, y, line, marker=marker, markersize=5, color=colour, label=label)
            if not math.isnan(own[0]["cosine_low"]):
                ends = [[row[f"cosine{end}"] for row in own] for end in ENDS[1:]]
                panel.fill_between(x, *ends, color=colour, alpha=0.18, linewidth=0)
        panel.set_title(state, fontsize=11)
        panel.set_xscale("log", base=2)
        panel.set_xticks(sorted({row["window"] for row in rows}))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_xlabel("window (micro-batches of the same effective batch)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("cosine with the gradient of one large batch")
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(STYLES), fontsize=9)
    drawn.suptitle(textwrap.fill(title, 110), fontsize=9)
    return drawn


def write(rows: list[dict[str, Any]], words: Sequence[str], out: Path) -> None:
    """accumulation.csv and accumulation.png in ``out``, each whole or not at all."""
    from siamese.runs.files import atomic

    with atomic(out / "accumulation.csv") as file:
        file.write(as_csv(rows).encode())
    shown = " ".join(word for word in words if not word.startswith(("data.root", "data.cache_dir")))
    drawn = figure(rows, shown)
    with atomic(out / "accumulation.png") as file:
        drawn.savefig(file, format="png", dpi=150)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Lightning has to say of each of many short fits."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("accumulation", __doc__ or "")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as after train.py")
    parser.add_argument("--batches", type=int, default=8, metavar="N", help="large batches to measure (8)")
    parser.add_argument(
        "--windows", type=lambda text: [int(n) for n in text.split(",")], metavar="A,B,…", help="1,2,4,… (default)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="outputs/accumulation/TIME by default")
    with errors_in_one_line():
        with_own_modules()
        asked = parser.parse_args(arguments)
        asked.words = understood(asked.words)
        if asked.batches < 1:
            raise ConfigError(f"--batches {asked.batches}: expected at least 1")
        from rich.console import Console

        out = asked.out or Path("outputs/accumulation") / time.strftime("%Y-%m-%d_%H-%M-%S")
        with _quiet():
            rows = study(asked.words, asked.batches, asked.windows, out)
        write(rows, asked.words, out)
        for shown in tables(rows):
            Console().print(shown)
        print(f"{out / 'accumulation.csv'} and {out / 'accumulation.png'}")
