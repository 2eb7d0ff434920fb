"""Flags of the commands that use a trained network, and the encoder that they ask for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siamese.config.words import pasteable
from siamese.paths import shown
from siamese.runs.choose import chosen_run

if TYPE_CHECKING:
    from siamese.encoder import Encoder


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Let ``parser`` take a run, and which of its networks is meant."""
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run directory, or with --by a folder of them")
    add("--by", metavar="MEASURE", help="take the best of several runs by this measure, such as val/auc")
    add("--checkpoint", default="best", metavar="NAME", help="best (default), last, or another of RUN/checkpoints")
    trust = "a module of yours that the run names"
    add("--trust", action="append", default=[], metavar="MODULE", help=trust)


def parsed(parser: argparse.ArgumentParser, words: Sequence[str] | None) -> argparse.Namespace:
    """What was typed, with the one run that it means as ``run``. Imports no torch.

    Raises:
        ConfigError, RunError: see :func:`siamese.runs.choose.chosen_run`.
    """
    asked = parser.parse_args(words)
    asked.run = chosen_run(asked.run.expanduser(), asked.by)
    return asked


def remedy(asked: argparse.Namespace, command: str) -> str:
    """What trusts a module, up to its name."""
    return f"{shown(command)} {pasteable(asked.run)} --trust "


def encoder_of(
    asked: argparse.Namespace, command: str, device: str | None = None, precision: str | None = None
) -> Encoder:
    """The encoder that :func:`add_flags` were given for; ``command`` is what was called with them. Imports torch.

    Raises:
        ConfigError, RunError: see :func:`siamese.load_run`.
    """
    from siamese.encoder.load import load_run

    return load_run(
        asked.run,
        checkpoint=asked.checkpoint,
        device=device,
        precision=precision,
        trust=asked.trust,
        remedy=remedy(asked, command),
    )
