"""Going on with a run: with its own configuration, from its newest checkpoint that can be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from siamese import artifacts
from siamese.config import flatten, to_dict, validate
from siamese.errors import ConfigError, RunError
from siamese.schema import NOT_SCIENTIFIC, SCHEMA_VERSION, SPANS, TARGETS, Config, is_scientific
from siamese.targets import targets

EPOCHS = "trainer.max_epochs"


def resumed_config(composed: DictConfig) -> Config:
    """The configuration with which ``composed.resume`` goes on: the run's own, changed by what else
    the command line says.

    Raises:
        ConfigError: when the directory is no run, was written by a newer version, has completed its
            epochs, or the command line changes what the run computes.
    """
    run = Path(str(composed.resume))
    own = read_run(run, f"resume={run}")
    said = [str(word) for word in HydraConfig.get().overrides.task if not str(word).startswith("resume=")]
    asked = _changes_asked(run, said)
    own_values = flatten(to_dict(own))
    for key, value in asked.items():
        if not is_scientific(key) or own_values.get(key) == value:
            continue
        if key != EPOCHS:
            raise ConfigError(
                f"{key}={value}: resume cannot change what the run computes (it has {key}={own_values.get(key)}); "
                f"only {EPOCHS} and {', '.join(NOT_SCIENTIFIC)} may change"
            )
        if not isinstance(value, int) or value < own.trainer.max_epochs:
            raise ConfigError(f"{key}={value}: resume may raise it above {own.trainer.max_epochs}, not lower it")
        spanning = [k for k in SPANS if k in own.scheduler and own.scheduler[k] is None]
        if spanning:
            raise ConfigError(
                f"{key}={value}: the learning rate follows scheduler.{spanning[0]} over the {own.trainer.max_epochs} "
                "epochs that the run began with; a longer schedule is another run"
            )
    nested = OmegaConf.create(to_dict(own))
    for key, value in asked.items():
        OmegaConf.update(nested, key, value)
    config = validate(nested)
    _refuse_foreign_targets(own, said)
    status = artifacts.read_json(run / "status.json")
    if status.get("state") == "completed" and config.trainer.max_epochs <= own.trainer.max_epochs:
        raise ConfigError(
            f"resume={run}: the run has completed its {own.trainer.max_epochs} epochs; raise {EPOCHS} to go on"
        )
    return config


def read_run(run: Path, said: str) -> Config:
    """The configuration of the run in ``run``, which the command line names in the words ``said``.

    Raises:
        ConfigError: when the directory is no run, is damaged, or was written by a newer version.
    """
    if not (run / "manifest.json").is_file() or not (run / "config.resolved.yaml").is_file():
        raise ConfigError(f"{said}: not a run directory; expected manifest.json and config.resolved.yaml in it")
    try:
        version = artifacts.read_json(run / "manifest.json").get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ConfigError(f"{said}: its schema_version is {version}; this program reads up to {SCHEMA_VERSION}")
        resolved = yaml.safe_load((run / "config.resolved.yaml").read_text())
    except (OSError, ValueError, yaml.YAMLError, RunError) as error:
        raise ConfigError(f"{said}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    try:
        return validate(resolved)
    except ConfigError as error:
        raise ConfigError(f"{said}: its config.resolved.yaml is no configuration ({error})") from None


def _changes_asked(run: Path, said: list[str]) -> dict[str, Any]:
    """What the command line says besides ``resume=``: the keys in which composing the run's first
    command differs from composing it with the words ``said`` added."""
    if not said:
        return {}
    try:
        first = [str(word) for word in yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())]
    except (OSError, TypeError, yaml.YAMLError):
        raise ConfigError(f"resume={run}: its .hydra/overrides.yaml is missing or damaged") from None

    def composed(words: list[str]) -> dict[str, Any]:
        config = compose("train", words)
        config.name = ""  # made of Hydra's choices, and no science
        return flatten(OmegaConf.to_container(config, resolve=True))

    before, after = composed(first), composed([*first, *said])
    return {key: value for key, value in after.items() if key not in before or before[key] != value}


def _refuse_foreign_targets(own: Config, said: list[str]) -> None:
    for key, target in foreign_targets(own):
        if f"{key}._target_={target}" not in [word.lstrip("+") for word in said]:
            raise ConfigError(
                f"{key}._target_={target}: the run directory names it and conf/{key.partition('.')[0]} does not; to "
                f"trust it, repeat {key}._target_={target} on the command line"
            )


def foreign_targets(own: Config) -> Iterator[tuple[str, str]]:
    """Nodes of a run's configuration, and what each wants built that no file of ``conf/`` names: a run
    directory may come from anywhere."""
    conf = Path(__file__).parent.parent / "conf"
    for group in (*TARGETS, "logger"):
        known = {yaml.safe_load(file.read_text()).get("_target_") for file in (conf / group).glob("*.yaml")}
        for key, node in targets(group, getattr(own, group)):
            if node["_target_"] not in known:
                yield key, node["_target_"]
