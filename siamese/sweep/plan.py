"""Which jobs a command line asks for, and in which directory each of them lives."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from siamese.config.schema import is_scientific
from siamese.config.validate import flatten
from siamese.errors import ConfigError
from siamese.study.reader import read_plan

UNSAID = ("sweep", "study", "experiment")  # what a job does not repeat in its name
LONGEST = 100  # characters of the readable part of a directory's name


@dataclass(frozen=True)
class Planned:
    """One job.

    Attributes:
        words: its overrides of the configuration, as one would type them after ``train.py``.
        varied: what tells it from the other jobs of the command: short names and values.
        folder: the name of its run directory: what is varied, and a digest of its science (and of
            what else is varied).
        science: every scientific key of its composed configuration.
        composed: its configuration without Hydra's node.
    """

    words: tuple[str, ...]
    varied: Mapping[str, str]
    folder: str
    science: Mapping[str, Any]
    composed: Mapping[str, Any]

    @property
    def mark(self) -> str:
        """What the folder ends with, whatever else a command varies."""
        return self.folder.rpartition("-")[2]

    @property
    def title(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.varied.items()) or self.folder


@dataclass(frozen=True)
class Plan:
    """The jobs of a command, the science of its configuration without what they vary, and the keys
    of the configuration that do vary."""

    jobs: list[Planned]
    base: Mapping[str, Any]
    varied: frozenset[str]

    @property
    def name(self) -> str:
        """What the sweep is called when nobody names it: the same for the same command."""
        common = {key: value for key, value in self.base.items() if key not in self.varied}
        keys = dict.fromkeys(key for job in self.jobs for key in job.varied)
        return f"{_safe('_'.join(keys)) or 'single'}-{digest(common)}"


def plan(arguments: Sequence[str], params: Mapping[str, Any], master: DictConfig, loader: ConfigLoader) -> Plan:
    """The jobs of the command line ``arguments``: every point of ``sweep.points`` with every combination
    of the comma-separated values of ``arguments`` and, where these do not say, of ``params``.

    Raises:
        ConfigError: for a point that is no list of overrides, sets what the command line sets, or
            makes a job that another point or value makes too.
        HydraException: for words that Hydra cannot parse or compose.
    """
    parser = OverridesParser.create(config_loader=loader)
    axes: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *arguments]):
        axes[override.get_key_element()] = _values(override)
    points = [(point, point) for point in _points(master, parser, axes)] or _runs_of_study(master, parser, axes)
    swept = [key for key, values in axes.items() if len(values) > 1]
    if not swept and not points:  # a single job is told by all that is said of it
        swept = [key for key in axes if is_scientific(key) and key not in UNSAID]
    compose = Composer(master, loader, parser)
    combinations = list(itertools.product(points or [([], [])], itertools.product(*axes.values())))
    telling = [(*t, *(w for key, w in zip(axes, row, strict=True) if key in swept)) for (_, t), row in combinations]
    short = _short(dict.fromkeys(word.partition("=")[0] for words in telling for word in words))
    jobs: dict[str, Planned] = {}
    for ((point, _), row), words in zip(combinations, telling, strict=True):
        composed, science = compose((*row, *point))
        varied = {short[key]: value for key, _, value in (word.partition("=") for word in words)}
        asked = {key: value for key, _, value in (word.partition("=") for word in words) if not is_scientific(key)}
        mark = digest({**science, **asked})  # who varies a path or the workers means to
        slug = _safe("_".join(f"{key}-{value}" for key, value in varied.items()))
        job = Planned((*row, *point), varied, f"{slug or 'single'}-{mark}", science, composed)
        if mark in jobs:
            again, first = job.title, jobs[mark].title
            raise ConfigError(f"{again}: is there twice" if again == first else f"{again}: computes what {first} does")
        jobs[mark] = job
    _, base = compose(tuple(values[0] for values in axes.values() if len(values) == 1))
    different = {
        key
        for job in jobs.values()
        for key in base.keys() | job.science.keys()
        if base.get(key, ...) != job.science.get(key, ...)
    }
    return Plan(list(jobs.values()), base, frozenset(different))


class Composer:
    """Composes jobs as Hydra does, each choice of groups once."""

    def __init__(self, master: DictConfig, loader: ConfigLoader, parser: OverridesParser) -> None:
        self.master, self.loader, self.parser = master, loader, parser
        self._composed: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        self._is_group: dict[str, bool] = {}

    def __call__(self, words: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration of a job, without Hydra's node, and its science."""
        overrides = self.parser.parse_overrides(list(words))
        choices = tuple(str(o.input_line) for o in overrides if not self._is_plain(o))
        if choices not in self._composed:
            self._composed[choices] = self._compose(choices)
        hydra, job = self._composed[choices]
        job = copy.deepcopy(job)
        try:
            for override in overrides:
                if self._is_plain(override):
                    OmegaConf.update(job, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # Hydra says better what is wrong with it
            hydra, job = self._compose(words)
        HydraConfig.instance().cfg = cast(Any, hydra)  # what interpolations such as ${hydra:...} read
        container = cast(dict[str, Any], OmegaConf.to_container(job, resolve=True))
        return container, {key: value for key, value in flatten(container).items() if is_scientific(key)}

    def _compose(self, words: tuple[str, ...]) -> tuple[DictConfig, DictConfig]:
        """Hydra's node, and the rest."""
        config = self.loader.load_sweep_config(self.master, list(words))
        job = [str(key) for key in config if key != "hydra"]
        return OmegaConf.masked_copy(config, "hydra"), OmegaConf.masked_copy(config, job)

    def _is_plain(self, override: Override) -> bool:
        """Whether it sets one key after the groups are chosen, which may then be chosen once."""
        key = override.key_or_group
        if override.is_add() or override.is_delete() or override.package is not None:
            return False
        if key not in self._is_group:
            self._is_group[key] = bool(self.loader.get_group_options(key))
        return not self._is_group[key]


def digest(science: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of ``science``; numbers count by their value, so 0 is 0.0."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return float(value) if isinstance(value, int) and not isinstance(value, bool) else value

    text = json.dumps(plain(science), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _values(override: Override) -> list[str]:
    """The words that an override stands for: one, or one for each of its comma-separated values."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: expected values, as in a,b,c or range(3) or glob(*)")
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def _points(master: DictConfig, parser: OverridesParser, axes: Mapping[str, list[str]]) -> list[list[str]]:
    """The elements of ``sweep.points``, checked."""
    points = cast(dict[str, Any], OmegaConf.to_container(master.sweep, resolve=True))["points"]
    shape = "expected lists of overrides, as in [['data.batch_size=16','seed=1'],['data.batch_size=32','seed=1']]"
    if not isinstance(points, list):
        raise ConfigError(f"sweep.points={points}: {shape}")
    for point in points:
        if not isinstance(point, list) or not point or not all(isinstance(word, str) for word in point):
            raise ConfigError(f"sweep.points: {shape}, found {point}")
        for override in parser.parse_overrides(point):
            key = override.get_key_element()
            if override.is_sweep_override():
                raise ConfigError(f"sweep.points: {override.input_line}: a point has one value for each key")
            if key in axes:
                raise ConfigError(f"{axes[key][0]}: the points of sweep.points set {key} too ({' '.join(point)})")
    return points


def _runs_of_study(
    master: DictConfig, parser: OverridesParser, axes: Mapping[str, list[str]]
) -> list[tuple[list[str], list[str]]]:
    """Of every run that a study's plan asks for, its overrides, and those that tell it: its arm and its seed. What the
    plan says of all runs gives way to its arms and to the command line; what it says of an arm, to nothing."""
    asked = cast(dict[str, Any], OmegaConf.to_container(master.study, resolve=True))
    if asked["plan"] is None:
        return []
    if asked["seeds"] is not None and asked["seeds"] < 1:
        raise ConfigError(f"study.seeds={asked['seeds']}: expected at least 1, or null for all")
    study = read_plan(Path(asked["plan"]))
    runs = study.asked(asked["claims"], asked["seeds"], pilot=asked["pilot"])
    if not runs:
        raise ConfigError(f"study.claims={asked['claims']}: no run is asked for; expected claims, or null for all")
    if asked["missing"]:
        from siamese.study.rows import ROWS, rows_so_far  # with SciPy, which a sweep needs for nothing else

        there = {row.place for row in rows_so_far(study)}
        runs = [run for run in runs if run not in there]
        if not runs:
            raise ConfigError(f"study.missing=true: {study.path.parent / ROWS} has every run that is asked for")
    out = []
    for arm, seed in runs:
        told = [f"study.arm={arm}", f"seed={seed}"]
        own = {o.get_key_element(): str(o.input_line) for o in parser.parse_overrides([*study.arms[arm], *told])}
        for key in own.keys() & axes.keys():
            raise ConfigError(f"{axes[key][0]}: {study.path} sets {key} of its arm {arm} ({own[key]})")
        shared = {o.get_key_element(): str(o.input_line) for o in parser.parse_overrides(list(study.words))}
        kept = [word for key, word in shared.items() if key not in axes.keys() | own.keys()]
        out.append(([*kept, *own.values()], told))
    return out


def _short(keys: Iterable[str]) -> dict[str, str]:
    """Each dotted key by its last part, or by more of them where that would name two."""
    keys = list(keys)
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def _safe(text: str) -> str:
    """``text`` as part of a file name that neither a shell nor Hydra reads as anything else."""
    return re.sub(r"[^\w.-]+", "", text).strip(".-_")[:LONGEST]
