"""Training from Python, in the caller's own process: what ``python train.py`` does, and nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from siamese.commands.guard import Call, calling
from siamese.commands.left_alone import left_as_found
from siamese.commands.messages import errors_in_our_words
from siamese.commands.train import composed
from siamese.config.words import understood
from siamese.errors import ConfigError, Interrupted
from siamese.paths import shown, train_command, with_own_modules
from siamese.runs.locks import release
from siamese.runs.opened import OpenRun, open_run


def train(overrides: Sequence[str], config_dir: str | os.PathLike[str] | None) -> OpenRun:
    """Train one run; see :func:`siamese.train`."""
    _refuse(overrides)
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("siamese.train: expected the main thread, which is told of signals; found another")
    added = [] if config_dir is None else ["--config-dir", os.fspath(config_dir)]
    call = Call()
    with left_as_found(), errors_in_our_words():
        within = calling.set(call)
        try:
            os.environ["HYDRA_FULL_ERROR"] = "1"
            with_own_modules()
            sys.argv = [train_command()[1], *added, *overrides]  # for the manifest
            sys.argv[1:] = understood(sys.argv[1:])
            composed()
        except Interrupted as interrupted:
            if interrupted.signal == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + interrupted.signal) from None
        finally:
            calling.reset(within)
            if call.directory is not None:
                release(call.directory)  # an interrupt may come between claim and training
    assert call.directory is not None
    return open_run(call.directory)


def _refuse(overrides: Sequence[object]) -> None:
    """Refuse what is no override.

    Raises:
        ConfigError: naming the first, for flags and for what is no text.
    """
    for word in overrides:
        if not isinstance(word, str):
            raise ConfigError(
                f"{word!r:.60}: expected GROUP=OPTION or KEY=VALUE, one text each, found {type(word).__name__}"
            )
        if word.partition("=")[0] in ("--config-dir", "-cd"):
            raise ConfigError(f"{word!r}: expected config_dir=DIR as an argument of siamese.train")
        if word.startswith("-"):
            raise ConfigError(
                f"{word!r}: siamese.train takes no flags, and trains one run; use the command line "
                f"({shown('train')} {word} ...)"
            )
