"""Which learning rate to begin with: a range test (Smith 2017, Cyclical learning rates, section 3.3).

    python scripts/lr_find.py data=digits model=conv_small

takes train.py's words. It trains from the beginning while the rate rises exponentially from --low to --high, and
suggests the rate at which the smoothed loss falls fastest. The schedule of the words, if there is one, is left out. A
loss that becomes NaN or infinite ends it. Writes lr_find.csv and lr_find.png; nothing else of the run remains.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamese.commands.arguments import Parser
from siamese.commands.messages import errors_in_one_line
from siamese.compare.tables import as_csv
from siamese.config.words import understood
from siamese.errors import ConfigError, RunError
from siamese.palette import GREY, LINES
from siamese.paths import CONF, with_own_modules

LEAST_STEPS = 10  # fewer make no curve


def tried(words: Sequence[str], low: float, high: float, steps: int, out: Path) -> list[Any]:
    """The steps of the test; see :func:`siamese.training.rates.rising`."""
    from hydra import compose, initialize_config_dir
    from rich.console import Console

    from siamese.training.check import Command, check
    from siamese.training.rates import rising

    if any(word.startswith("resume=") for word in words):
        raise ConfigError("resume: a range test begins anew; expected the words of a new run")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", [*words, "name=lr_find", "callbacks.progress_bar=false"])
        config = check(Command(composed, tuple(words)), out)
    if config.device.ranks > 1:
        raise ConfigError(f"device.devices={config.device.devices}: expected 1, this trains on one device")
    if config.data.batch_size == "auto":
        raise ConfigError("data.batch_size=auto: a rate is that of some batch; expected a number")
    with Console(stderr=True).status(f"training for {steps} steps"):
        return rising(config, low, high, steps, out)


def figure(rows: Sequence[dict[str, float]], best: int | None, title: str) -> Any:
    """The losses, as they are and smoothed, against the rate on a logarithmic axis; ``best``: the row suggested."""
    import textwrap

    from matplotlib.figure import Figure

    drawn = Figure(figsize=(8, 4.5), layout="constrained")
    axes = drawn.subplots()
    rates, losses, smooth = ([row[name] for row in rows] for name in ("lr", "loss", "smoothed"))
    axes.plot(rates, losses, ".", color=GREY, alpha=0.5, markersize=4, label="loss of a step")
    axes.plot(rates, smooth, color=LINES[0], linewidth=2, label="smoothed")
    if best is not None:
        axes.axvline(rates[best], color=LINES[1], linestyle="--", linewidth=1)
        label = f"falls fastest: {rates[best]:.2g}"
        axes.plot(rates[best], smooth[best], "D", color=LINES[1], markersize=8, label=label)
    low, high = min(losses), max(losses[0], *smooth[: 1 + (best or 0)])
    if max(losses) > high + 2 * (high - low):  # a loss that explodes would leave nothing to see of the rest
        axes.set_ylim(low - 0.1 * (high - low), high + (high - low))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate (optimizer.lr)")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    drawn.suptitle(textwrap.fill(title, 100), fontsize=9)
    return drawn


def write(rows: Sequence[dict[str, float]], best: int | None, words: Sequence[str], out: Path) -> None:
    """lr_find.csv and lr_find.png in ``out``, each whole or not at all."""
    from siamese.runs.files import atomic

    with atomic(out / "lr_find.csv") as file:
        file.write(as_csv(rows).encode())
    shown = " ".join(word for word in words if not word.startswith(("data.root", "data.cache_dir")))
    drawn = figure(rows, best, shown)
    with atomic(out / "lr_find.png") as file:
        drawn.savefig(file, format="png", dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = Parser("lr-find", __doc__ or "")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as after train.py")
    parser.add_argument("--low", type=float, default=1e-6, metavar="RATE", help="the first rate (1e-6)")
    parser.add_argument("--high", type=float, default=1.0, metavar="RATE", help="the last rate (1)")
    parser.add_argument("--steps", type=int, default=100, metavar="N", help="optimizer steps between them (100)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="outputs/lr_find/TIME by default")
    with errors_in_one_line():
        with_own_modules()
        asked = parser.parse_intermixed_args(arguments)
        asked.words = understood(asked.words)
        if not 0 < asked.low < math.inf:
            raise ConfigError(f"--low {asked.low:g}: expected a number above 0")
        if not asked.low < asked.high < math.inf:
            raise ConfigError(f"--high {asked.high:g}: expected a number above --low {asked.low:g}")
        if asked.steps < LEAST_STEPS:
            raise ConfigError(f"--steps {asked.steps}: expected at least {LEAST_STEPS}")
        out = asked.out or Path("outputs/lr_find") / time.strftime("%Y-%m-%d_%H-%M-%S")
        logging.disable(logging.WARNING)  # what Lightning has to say of a fit that is no run
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = tried(asked.words, asked.low, asked.high, asked.steps, out)
        finally:
            logging.disable(logging.NOTSET)
        tell(found, asked.steps, asked.words, out)


def tell(found: Sequence[Any], steps: int, words: Sequence[str], out: Path) -> None:
    """Write what was ``found`` of the ``steps``, and say which rate it suggests.

    Raises:
        RunError: where the loss became NaN or infinite before there was a curve.
    """
    import numpy as np

    from siamese.training.rates import smoothed, steepest

    if len(found) < LEAST_STEPS:
        raise RunError(
            f"the loss became NaN or infinite at step {len(found) + 1} of {steps}, too early for a curve; "
            "try a smaller --low"
        )
    rates, losses = np.array(found).T
    smooth = smoothed(losses, steps)
    best = steepest(rates, smooth)
    rows = [
        {"step": step, "lr": rate, "loss": loss, "smoothed": mean}
        for step, (rate, loss, mean) in enumerate(zip(rates.tolist(), losses.tolist(), smooth.tolist(), strict=True))
    ]
    write(rows, best, words, out)
    if len(found) < steps:
        print(f"the loss became NaN or infinite after step {len(found)} of {steps}, at a rate of {rates[-1]:.2g}")
    if best is None:
        print(f"no rate is suggested: the smoothed loss does not fall between {rates[0]:.2g} and {rates[-1]:.2g}")
    else:
        print(f"suggested: optimizer.lr={rates[best]:.2g}, where the smoothed loss falls fastest")
    print(f"{out / 'lr_find.csv'} and {out / 'lr_find.png'}")
