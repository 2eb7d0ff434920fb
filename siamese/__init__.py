"""Train embedding networks on labelled images, and study how they are trained."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from siamese import errors

if TYPE_CHECKING:
    from siamese.runs.opened import OpenRun

__version__ = "0.1.0"
__all__ = ["errors", "open_run", "train"]


def train(*overrides: str, config_dir: str | os.PathLike[str] | None = None) -> OpenRun:
    """Train one run as ``python train.py OVERRIDES`` does, and open it.

    The caller's program is left as it was: its random generators, torch's settings, its handlers of signals and of
    log records, its environment.

    Args:
        overrides: ``GROUP=OPTION`` and ``KEY=VALUE``, one each.
        config_dir: a folder of options of one's own.

    Raises:
        ConfigError: for what cannot be run as it stands, in the words of the command.
        RunError: for what fails while running.
        KeyboardInterrupt: when it was interrupted; ``resume=DIR`` goes on.
    """
    from siamese.commands.in_python import train  # torch and Hydra take seconds to import

    return train(overrides, config_dir)


def open_run(directory: str | os.PathLike[str]) -> OpenRun:
    """Open a completed run to read its summary, metrics, arrays and figures. No torch is imported.

    Raises:
        ConfigError: for a directory that is no run.
        RunError: for a run that is not completed or cannot be read.
    """
    from siamese.runs.opened import open_run

    return open_run(directory)
