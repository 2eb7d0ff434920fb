"""What stands between the shell and the program: one-line errors, and the guard that checks a
command before its run directory is touched. Nothing here imports torch at module level."""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from siamese import artifacts
from siamese.config import one_line, validate
from siamese.errors import ConfigError, RunError, nearest
from siamese.resume import resumed_config
from siamese.schema import schema
from siamese.targets import check_targets

BAD_COMMAND, FAILED = 2, 1
CONF = Path(__file__).parent.parent / "conf"


class Interrupted(BaseException):
    """The user or the system asked the run to stop."""

    def __init__(self, signal: int) -> None:
        self.signal = signal


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Turn what a user can cause into one line on stderr and an exit status; let bugs through."""
    parser_error = argparse.ArgumentParser.error
    argparse.ArgumentParser.error = _refuse_flag  # type: ignore[assignment, method-assign]
    try:
        yield
    except ConfigError as error:
        _stop(str(error), BAD_COMMAND)
    except RunError as error:
        _stop(str(error), FAILED)
    except HydraException as error:
        _stop(explain(error), BAD_COMMAND)
    except OmegaConfBaseException as error:
        _stop(one_line(error), BAD_COMMAND)
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):  # Hydra's, for model=null
            raise
        _stop(_unfit_option() or str(error), BAD_COMMAND)
    except Interrupted as interrupted:
        if artifacts.follows():
            sys.exit()  # its leader was interrupted too; another status would have Lightning kill that
        sys.exit(128 + interrupted.signal)
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        argparse.ArgumentParser.error = parser_error  # type: ignore[method-assign]


class Parser(argparse.ArgumentParser):
    """Of a script's flags, whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        flags = [flag for action in self._actions for flag in action.option_strings]
        hints = [hint for word in message.split() if word.startswith("--") and (hint := nearest(word, flags))]
        raise ConfigError(f"{message}{''.join(hints[:1]) or f'; see python scripts/{self.prog} --help'}")


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
    keys = [*schema()] + [d.name for d in CONF.iterdir() if d.is_dir()]
    for group in ("model", "loss", "optimizer", "scheduler"):
        for file in (CONF / group).glob("*.yaml"):
            keys += [f"{group}.{key}" for key in yaml.safe_load(file.read_text())]
    return sorted(set(keys))


class Guard(Callback):
    """Checks a run before Hydra makes or writes into its directory (a Hydra callback)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if artifacts.follows():
            return  # its leader has done all this
        with errors_in_one_line():
            HydraConfig.instance().set_config(config)  # what interpolations such as ${hydra:...} read
            directory = Path(str(OmegaConf.select(config, "hydra.run.dir")))
            if config.resume is None and not str(OmegaConf.select(config, "hydra.run.dir")):
                raise ConfigError("hydra.run.dir: expected a folder to write into, found nothing")
            if config.resume is None and artifacts.holds_a_run(directory):
                raise ConfigError(
                    f"hydra.run.dir={directory}: already holds a run; go on with it (resume={directory}) "
                    "or choose another directory"
                )
            command = job_config(config)
            check_targets(validate(command) if config.resume is None else resumed_config(command))  # what fails soonest
            from siamese.run import check

            check(command)
            artifacts.claim(directory)


def job_config(config: DictConfig) -> DictConfig:
    """The composed configuration without Hydra's own node, its interpolations still resolvable."""
    job = OmegaConf.masked_copy(config, [str(k) for k in config if k != "hydra"])
    return cast(DictConfig, OmegaConf.create(OmegaConf.to_container(job, resolve=True)))


class Console(logging.Handler):
    """Log records on the terminal, above a live progress bar rather than through it."""

    def emit(self, record: logging.LogRecord) -> None:
        import rich

        try:
            message = self.format(record)
            style = "yellow" if record.levelno == logging.WARNING else "red" if record.levelno > 30 else None
            rich.get_console().print(message, style=style, markup=False, highlight=False, soft_wrap=True)
        except Exception:
            self.handleError(record)


def _run_dir(resume: str | None, fresh: str) -> str:
    return fresh if resume is None else str(Path(resume))


def _hydra_subdir(resume: str | None) -> str | None:
    return ".hydra" if resume is None else None  # a resumed run keeps the record of its first command


OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
OmegaConf.register_new_resolver("hydra_subdir", _hydra_subdir, replace=True)
