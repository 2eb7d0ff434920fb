"""Going on with a run: with its own configuration, from its newest checkpoint that can be read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from siamese.config.schema import NOT_SCIENTIFIC, SPANS, Config, is_scientific
from siamese.config.trust import refuse_strangers
from siamese.config.validate import flatten, to_dict, validate
from siamese.config.words import pasteable
from siamese.errors import ConfigError, RunError
from siamese.paths import CONF, near, shown
from siamese.runs.checkpoint import Trained, resumable
from siamese.runs.read import read_config, read_overrides, require_places, status_if_readable

EPOCHS, PATIENCE = "trainer.max_epochs", "callbacks.patience"


def resumed_config(resume: str, words: Sequence[str], config_dirs: Sequence[Path] = ()) -> Config:
    """The configuration with which the run in ``resume`` goes on: the run's own, changed by what else
    the command line says.

    Args:
        words: the overrides that were typed.
        config_dirs: folders of options that the command line adds, whose targets it trusts.

    Raises:
        ConfigError: when the directory is no run, was written by a newer version, has completed its
            epochs, lacks what it needs to go on, or the command line changes what the run computes.
    """
    run = Path(str(resume))
    own = read_config(run, f"resume={run}")
    said = [word for word in words if not word.startswith("resume=")]
    asked = _changes_asked(run, said)
    own_values, epochs = flatten(to_dict(own)), own.trainer.max_epochs
    for key, value in asked.items():
        if not is_scientific(key) or own_values.get(key) == value:
            continue
        if key == PATIENCE:
            _require_more_patience(own.callbacks.patience, value)
            continue
        if key != EPOCHS:
            raise ConfigError(
                f"{key}={value}: resume cannot change what the run computes (it has {key}={own_values.get(key)}); "
                f"only {EPOCHS}, {PATIENCE} and {', '.join(NOT_SCIENTIFIC)} may change"
            )
        if not isinstance(value, int) or value < epochs:
            raise ConfigError(f"{key}={value}: resume may raise it above {epochs}, not lower it")
        spanning = [k for k in SPANS if k in own.scheduler and own.scheduler[k] is None]
        spanning += ["warmup"] * isinstance(own.scheduler.get("warmup"), float)
        if isinstance(own.callbacks.swa, float):
            raise ConfigError(
                f"{key}={value}: callbacks.swa={own.callbacks.swa} is of the {epochs} epochs that the run began with; "
                "a longer one is another run"
            )
        if spanning:
            raise ConfigError(
                f"{key}={value}: the learning rate follows scheduler.{spanning[0]} over the {epochs} "
                "epochs that the run began with; a longer schedule is another run"
            )
    nested = OmegaConf.create(to_dict(own))
    for key, value in asked.items():
        OmegaConf.update(nested, key, value)
    config = validate(nested)
    typed = {word.lstrip("+").partition("._target_=")[2] for word in said} - {""}
    refuse_strangers(
        own, [config.trust, *typed], config_dirs, f"{shown('train')} {pasteable(('resume', near(run)))} trust="
    )
    try:
        require_places(run)
        trained = resumable(run)
    except RunError as error:
        raise ConfigError(f"resume={run}: {error}") from None
    if status_if_readable(run).get("state") == "completed":
        _require_work(run, trained, epochs, config)
    return config


def _require_more_patience(own: int | None, asked: object) -> None:
    """Refuse a patience under which the run would have stopped before."""
    if asked is not None and (own is None or not isinstance(asked, int) or asked < own):
        may = "not set it: the run has none" if own is None else f"raise it above {own} or set it to null, not lower it"
        raise ConfigError(f"{PATIENCE}={asked}: resume may {may}")


def _require_work(run: Path, trained: Trained | None, epochs: int, config: Config) -> None:
    """Refuse to go on with a completed run that has nothing left to do under ``config``."""
    patience, monitored = config.callbacks.patience, config.callbacks.monitor or "what it monitors"
    if trained is not None and trained.ended is not None:
        raise ConfigError(
            f"resume={run}: the run has ended at epoch {trained.epochs}, by {trained.ended}; "
            "a longer one is another run"
        )
    stopped = trained is not None and trained.epochs < epochs
    if patience is not None and trained and trained.since and trained.epochs - trained.since >= patience:
        raise ConfigError(
            f"resume={run}: the run has ended at epoch {trained.epochs}, since {monitored} has not improved since "
            f"epoch {trained.since}; raise {PATIENCE} above {trained.epochs - trained.since} or set it to null to go on"
        )
    if not stopped and config.trainer.max_epochs <= epochs:
        raise ConfigError(f"resume={run}: the run has completed its {epochs} epochs; raise {EPOCHS} to go on")


def _changes_asked(run: Path, said: list[str]) -> dict[str, Any]:
    """What the command line says besides ``resume=``: the keys in which composing the run's first
    command differs from composing it with the words ``said`` added."""
    if all(map(_is_plain, said)):
        return flatten({key: value for word in said for key, value in [_parsed(word)]})
    try:
        first = read_overrides(run)
    except RunError as error:
        raise ConfigError(f"resume={run}: {error}") from None

    from hydra import compose  # a twentieth of a second that other commands need not wait

    def composed(words: list[str]) -> dict[str, Any]:
        config = compose("train", words)
        config.name = ""  # made of Hydra's choices, and no science
        return flatten(OmegaConf.to_container(config, resolve=True))

    try:
        before = composed(first)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"resume={run}: {run / '.hydra' / 'overrides.yaml'}: {str(error).splitlines()[0]}") from None
    after = composed([*first, *said])
    return {key: value for key, value in after.items() if key not in before or before[key] != value}


def _is_plain(word: str) -> bool:
    """Whether ``word`` sets one key, so that what it asks for needs no composing."""
    key = word.partition("=")[0]
    return key[0] not in "+~" and "@" not in key and not (CONF / key).is_dir()


def _parsed(word: str) -> tuple[str, Any]:
    override = OverridesParser.create().parse_override(word)
    return str(override.key_or_group), override.value()
