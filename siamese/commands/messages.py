"""What ends a command, in one line: errors of ours, and of Hydra and OmegaConf in our words."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from typing import NoReturn

import yaml
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from siamese.config.schema import TYPES
from siamese.config.validate import one_line
from siamese.decoding import names
from siamese.errors import ConfigError, Interrupted, RunError, nearest
from siamese.paths import CONF
from siamese.training.roles import follows

BAD_COMMAND, FAILED = 2, 1


class Through(BaseException):
    """An error on its way through Hydra, which takes any ``Exception`` and says it in words of its own."""

    def __init__(self, error: ConfigError | RunError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def errors_in_our_words() -> Iterator[None]:
    """Turn errors of Hydra, OmegaConf and YAML that a user can cause into a ConfigError of one line."""
    parser_error = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = _refuse_flag  # type: ignore[assignment, method-assign]
    try:
        yield
    except Through as through:
        raise through.error from None
    except HydraException as error:
        raise ConfigError(explain(error)) from None
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    except yaml.MarkedYAMLError as error:  # a file of --config-dir
        place = error.problem_mark or error.context_mark
        at = f"{place.name}, line {place.line + 1}" if place else "a YAML file"
        raise ConfigError(f"{at}: no YAML ({error.problem or error.context})") from None
    except ValueError as error:
        # Hydra's own, for model=null, and for flags that exclude each other.
        if not str(error).startswith(("Config group override must be", "Only one of --")):
            raise
        raise ConfigError(_unfit_option() or str(error)) from None
    finally:
        argparse.ArgumentParser.error = parser_error  # type: ignore[method-assign]


@contextlib.contextmanager
def errors_through_hydra() -> Iterator[None]:
    """Send what Hydra calls past it: an error raised here arrives at :func:`errors_in_our_words` as it is."""
    try:
        with errors_in_our_words():
            yield
    except (ConfigError, RunError) as error:
        raise Through(error) from None


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn what a user can cause into one line on stderr and an exit status; let bugs through."""
    try:
        with errors_in_our_words():
            yield
    except ConfigError as error:
        _stop(str(error), BAD_COMMAND)
    except RunError as error:
        _stop(str(error), FAILED)
    except PermissionError as error:  # of a folder that may not be looked into, wherever a path meets it
        if error.filename is None:
            raise
        _stop(f"{names.one_line(error.filename)}: cannot be used ({error.strerror})", FAILED)
    except Interrupted as interrupted:
        if follows():
            sys.exit()  # its leader was interrupted too; another status would have Lightning kill that
        sys.exit(128 + interrupted.signal)
    except KeyboardInterrupt:
        sys.exit(130)


def _stop(message: str, status: int) -> None:
    logging.getLogger("siamese").debug(message)
    print(f"error: {message}", file=sys.stderr)
    sys.exit(status)


def _refuse_flag(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """What Hydra's parser of flags does with one that it does not know, in the place of its usage."""
    flags = re.findall(r"--[\w-]+", parser.format_usage())
    hints = [hint for word in message.split() if word.startswith("--") and (hint := nearest(word, flags))]
    raise ConfigError(f"{message}{''.join(hints[:1]) or '; see python train.py --hydra-help'}")


def _unfit_option() -> str | None:
    """The first word of the command line that gives a group something other than a name."""
    for word in sys.argv[1:]:
        group, equals, choice = word.lstrip("+").partition("=")
        if equals and not group:
            return f"{word!r}: expected GROUP=OPTION or KEY=VALUE"
        options = sorted(file.stem for file in (CONF / group).glob("*.yaml")) if group else []
        if options and choice not in options:
            return _no_such_option(group, choice, options)
    return None


# What brings the options of hydra/launcher that are not there without it.
LAUNCHERS = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}


def _no_such_option(group: str, choice: str, options: list[str]) -> str:
    if group == "hydra/launcher" and choice in LAUNCHERS:
        return f"{group}={choice}: not installed; pip install {LAUNCHERS[choice]}"
    return f"{group}={choice}: no such option; {group} is one of {', '.join(options)}{nearest(choice, options)}"


def explain(error: HydraException) -> str:
    """Hydra's complaint about a command line as one line with the nearest valid choice."""
    text = str(error) or str(error.__cause__)
    if isinstance(error, OverrideParseException):
        reason = " ".join(text.partition("See https")[0].split())
        return f"{error.override!r}: expected GROUP=OPTION or KEY=VALUE ({reason})"
    if found := re.search(r"Could not override '([^']+)'", text):
        key = found[1]
        return f"unknown key {key!r}{nearest(key, _known_keys())}"
    if found := re.search(r"Could not find '([^']+)'\s+Available options in '([^']+)':\s+(.*?)\n(?!\t)", text, re.S):
        group, choice = found[2], found[1].rpartition("/")[2]
        options = [o for o in found[3].split() if not o.startswith("_")]
        return _no_such_option(group, choice, options)
    if isinstance(error.__cause__, OmegaConfBaseException):
        text += f" ({str(error.__cause__).splitlines()[0]})"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())[:300]


def _known_keys() -> list[str]:
    keys = [*TYPES] + [d.name for d in CONF.iterdir() if d.is_dir()]
    for group in ("model", "loss", "optimizer", "scheduler"):
        for file in (CONF / group).glob("*.yaml"):
            keys += [f"{group}.{key}" for key in yaml.safe_load(file.read_text())]
    return sorted(set(keys))
