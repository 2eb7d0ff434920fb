"""Which jobs a command line asks for, and in which directory each of them lives."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from siamese.config import ConfigError, flatten
from siamese.schema import is_scientific

LONGEST = 100  # characters of the readable part of a directory's name


@dataclass(frozen=True)
class Planned:
    """One job.

    Attributes:
        words: its overrides of the configuration, as one would type them after ``train.py``.
        varied: those of them that tell it from the other jobs of the command.
        folder: the name of its run directory: what is varied, and a digest of its science.
        science: every scientific key of its composed configuration.
        composed: its configuration without Hydra's node.
    """

    words: tuple[str, ...]
    varied: tuple[str, ...]
    folder: str
    science: Mapping[str, Any]
    composed: DictConfig


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
        keys = dict.fromkeys(word.partition("=")[0] for job in self.jobs for word in job.varied)
        short = _short(keys)
        return "_".join([_safe("_".join(short[key] for key in keys)) or "single"]) + f"-{digest(common)}"


def plan(words: Sequence[str], params: Mapping[str, Any], master: DictConfig, loader: ConfigLoader) -> Plan:
    """The jobs of the command line ``words``: every point of ``sweep.points`` with every combination
    of the comma-separated values of ``words`` and, where these do not say, of ``params``.

    Raises:
        ConfigError: for a point that is no list of overrides, sets what the command line sets, or
            makes a job that another point or value makes too.
        HydraException: for words that Hydra cannot parse or compose.
    """
    parser = OverridesParser.create(config_loader=loader)
    axes: dict[str, list[str]] = {}
    for override in parser.parse_overrides([*(f"{key}={value}" for key, value in params.items()), *words]):
        axes[override.get_key_element()] = _values(override)
    points = [_point(point, parser, axes) for point in OmegaConf.to_container(master.sweep.points)]  # type: ignore[union-attr]
    swept = [key for key, values in axes.items() if len(values) > 1]
    compose = Composer(master, loader, parser)
    combinations = list(itertools.product(points or [[]], itertools.product(*axes.values())))
    shown = [(*point, *(w for key, w in zip(axes, row, strict=True) if key in swept)) for point, row in combinations]
    short = _short(dict.fromkeys(word.partition("=")[0] for varied in shown for word in varied))
    jobs: dict[str, Planned] = {}
    for (point, row), varied in zip(combinations, shown, strict=True):
        composed, science = compose((*row, *point))
        mark = digest(science)
        if mark in jobs:
            raise ConfigError(
                f"{' '.join(varied) or 'sweep.points'}: computes what "
                f"{' '.join(jobs[mark].varied) or 'another job'} computes; name each job once"
            )
        slug = _safe("_".join(f"{short[key]}-{value}" for key, _, value in (word.partition("=") for word in varied)))
        folder = f"{slug or 'single'}-{mark}"
        jobs[mark] = Planned((*row, *point), varied, folder, science, composed)
    _, base = compose(())
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
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._is_group: dict[str, bool] = {}

    def __call__(self, words: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
        """The configuration of a job, without Hydra's node, and its science."""
        overrides = self.parser.parse_overrides(list(words))
        choices = tuple(str(o.input_line) for o in overrides if not self._is_plain(o))
        if choices not in self._composed:
            self._composed[choices] = self.loader.load_sweep_config(self.master, list(choices))
        config = copy.deepcopy(self._composed[choices])
        try:
            for override in overrides:
                if self._is_plain(override):
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:  # Hydra says better what is wrong with it
            config = self.loader.load_sweep_config(self.master, list(words))
        HydraConfig.instance().set_config(config)  # what interpolations such as ${hydra:...} read
        job = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        container = OmegaConf.to_container(job, resolve=True)
        science = {key: value for key, value in flatten(container).items() if is_scientific(key)}
        return cast(DictConfig, OmegaConf.create(container)), science

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


def _point(point: Any, parser: OverridesParser, axes: Mapping[str, list[str]]) -> list[str]:
    """A checked element of ``sweep.points``."""
    if not isinstance(point, list) or not all(isinstance(word, str) for word in point) or not point:
        raise ConfigError(
            f"sweep.points: expected lists of overrides, as in [['data.batch_size=16','seed=1']], found {point}"
        )
    for override in parser.parse_overrides(point):
        key = override.get_key_element()
        if override.is_sweep_override():
            raise ConfigError(f"sweep.points: {override.input_line}: a point has one value for each key")
        if key in axes:
            raise ConfigError(f"{axes[key][0]}: the points of sweep.points set {key} too ({' '.join(point)})")
    return point


def _short(keys: Iterable[str]) -> dict[str, str]:
    """Each dotted key by its last part, or by more of them where that would name two."""
    keys = list(keys)
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def _safe(text: str) -> str:
    """``text`` as part of a file name that neither a shell nor Hydra reads as anything else."""
    return re.sub(r"[^\w.-]+", "", text).strip(".-_")[:LONGEST]
