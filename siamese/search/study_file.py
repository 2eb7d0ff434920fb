"""A study file: what a search varies, how many trials it makes of it, and which of them it gives up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import Trial

from siamese.config.validate import validate
from siamese.errors import ConfigError
from siamese.paths import CONF
from siamese.training.check import job_config


@dataclass
class Pruning:
    after_trials: int = 5
    after_epochs: int = 2


@dataclass
class Study:
    """A study file; conf/search/study.yaml says what each key is."""

    name: str = "study"
    directory: str = "outputs/searches/${name}"
    n_trials: int = 100
    workers: int = 1
    sampler_seed: int = 0
    metric: str = "val/auc"
    pruning: Pruning = field(default_factory=Pruning)
    retries: int = 3
    train: list[str] = field(default_factory=list)
    space: dict[str, dict[str, Any]] = field(default_factory=dict)


def read(path: Path, words: Sequence[str]) -> Study:
    """The study in ``path``, with the words of a command line: those that name its keys change them,
    the others are overrides of every trial.

    Raises:
        ConfigError: for a file that is no study, and for words that no trial could run with.
    """
    keys = Study.__dataclass_fields__
    own = [word for word in words if word.partition("=")[0].partition(".")[0] in keys]
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Study), OmegaConf.load(path), OmegaConf.from_dotlist(own))
        study = cast(Study, OmegaConf.to_object(merged))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]} (its keys are {', '.join(keys)})") from None
    except Exception as error:  # whatever text that is no YAML makes the reader raise
        raise ConfigError(f"{path}: no study file ({' '.join(str(error).split())[:200]})") from None
    study.train += [word for word in words if word not in own]
    if study.n_trials < 1 or study.workers < 1:
        raise ConfigError(f"n_trials={study.n_trials}, workers={study.workers}: expected at least 1 of each")
    for key, values in study.space.items():
        kind = {"low", "high"} <= values.keys() <= {"low", "high", "log", "step", "or"}
        if not kind and not (
            values.keys() == {"choices"} and isinstance(values["choices"], list) and values["choices"]
        ):
            raise ConfigError(f"{path}: space.{key}={values}: expected low and high (log, step, or), or choices")
    for word in study.train:
        if (key := word.lstrip("+~").partition("=")[0]) in study.space:
            raise ConfigError(f"{word}: the space of {path} sets {key} too")
    if not study.space:
        raise ConfigError(f"{path}: space is empty; expected what to search over")
    _check(study)
    return study


def _check(study: Study) -> None:
    """Compose and validate both ends of the space, so that what no trial can run with is known early."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for end in (0, -1):
            values = [
                f"{key}={_word(spec['choices'][end] if 'choices' in spec else spec['high' if end else 'low'])}"
                for key, spec in study.space.items()
            ]
            config = compose("train", [*study.train, *values], return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            validate(job_config(config))


def draw(trial: Trial, space: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The overrides that ``trial`` tries."""
    words = []
    for key, spec in space.items():
        value: Any
        if "choices" in spec:
            value = trial.suggest_categorical(key, spec["choices"])
        elif "or" in spec and not trial.suggest_categorical(f"{key}?", [False, True]):
            value = spec["or"]
        elif isinstance(spec["low"], int) and isinstance(spec["high"], int):
            value = trial.suggest_int(
                key, spec["low"], spec["high"], step=spec.get("step", 1), log=spec.get("log", False)
            )
        else:
            value = trial.suggest_float(
                key, spec["low"], spec["high"], step=spec.get("step"), log=spec.get("log", False)
            )
        words.append(f"{key}={_word(value)}")
    return words


def _word(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
