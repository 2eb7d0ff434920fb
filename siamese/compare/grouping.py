"""Runs to groups: which keys vary, which runs replicate one another, which group is compared with which."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from siamese.compare.settings import DERIVED, settings_of
from siamese.config.schema import is_scientific
from siamese.errors import ConfigError, nearest
from siamese.runs.run import LeftOut, Run

MOST_NAMED = 6  # keys in a group's name and in a table's columns
ABSENT = "—"  # a key that a run's configuration does not have
Unit = tuple[str, ...]  # what is paired: the seed, as JSON
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in nothing but what is paired (and, where --group-by says so, in keys it leaves out)."""

    number: int
    settings: dict[str, Any]  # of the keys that tell groups apart
    label: str
    runs: dict[Unit, list[Run]]
    effective_batch: int | None

    @property
    def letter(self) -> str:
        """A, B, … Z, AA, …: what tables call the group."""
        letters, rest = "", self.number
        while True:
            rest, last = divmod(rest, 26)
            letters = chr(ord("A") + last) + letters
            if rest == 0:
                return letters
            rest -= 1

    @property
    def members(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]


@dataclass(frozen=True)
class Condition:
    """``KEY OPERATOR VALUE``, for --where and --baseline."""

    key: str
    sign: str
    value: Any

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether ``settings`` has the key with a value that fits; one without the key does not."""
        if self.key not in settings:
            return False
        found = settings[self.key]
        if self.sign in ("=", "==", "!="):
            equal = found == self.value if _numbers(found, self.value) else canonical(found) == canonical(self.value)
            return equal != (self.sign == "!=")
        return _numbers(found) and ORDERS[self.sign](found, self.value)


def parse_condition(text: str, keys: Iterable[str]) -> Condition:
    """``loss.koleo_weight>0`` as a :class:`Condition`.

    Raises:
        ConfigError: for text of another form, a key that no run has, or an order asked of what is no number.
    """
    found = re.fullmatch(r"\s*([\w.@/-]+?)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", text, re.S)
    if not found:
        raise ConfigError(f"{text!r}: expected KEY=VALUE or another of != < <= > >=, such as loss.koleo_weight>0")
    key, sign, word = found.groups()
    known_key(key, keys)
    try:
        value = yaml.safe_load(word)
        value = float(value) if isinstance(value, str) and re.fullmatch(r"[-+\d.]+e[-+]?\d+", value, re.I) else value
    except (yaml.YAMLError, ValueError):
        value = word
    if sign in ORDERS and not _numbers(value):
        raise ConfigError(f"{text!r}: {sign} needs a number, found {word!r}")
    return Condition(key, sign, value)


def known_key(key: str, keys: Iterable[str]) -> str:
    """``key``, if a run has it.

    Raises:
        ConfigError: if none has; names the nearest.
    """
    keys = [*keys, *DERIVED]
    if key not in keys:
        raise ConfigError(f"unknown key {key!r}: no run has it{nearest(key, keys)}")
    return key


def without_repeats(runs: Sequence[Run], pair_by: Sequence[str]) -> tuple[list[Run], list[LeftOut]]:
    """The newest run of every configuration and seed, and the older ones as left out."""
    newest: dict[tuple[Any, ...], Run] = {}
    left_out = []
    for run in sorted(runs, key=lambda r: str(r.manifest.get("started"))):
        identity = (settings_of(run)["git_sha"], unit(run, pair_by), *_identity(run))
        if older := newest.get(identity):
            left_out.append(LeftOut(older.path, f"repeated by the newer {run.path}", "repeated"))
        newest[identity] = run
    kept = {run.path for run in newest.values()}
    return [run for run in runs if run.path in kept], left_out


def varying_keys(runs: Sequence[Run], pair_by: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The scientific keys that tell runs apart, in the order of the configuration, and those that are constant."""
    keys = list(dict.fromkeys(k for run in runs for k in run.config if is_scientific(k)))
    values = {key: {canonical(run.config.get(key, ABSENT)) for run in runs} for key in keys}
    apart = [k for k in keys if len(values[k]) > 1 and k != "seed" and k not in pair_by]
    constant = {k: runs[0].config[k] for k in keys if len(values[k]) == 1 and k != "seed"}
    return apart, constant


def make_groups(runs: Sequence[Run], keys: Sequence[str], pair_by: Sequence[str]) -> list[Group]:
    """Runs grouped by ``keys``, in the order of their values (numbers as numbers)."""
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        own_settings = settings_of(run)
        members.setdefault(tuple(canonical(own_settings.get(k, ABSENT)) for k in keys), []).append(run)
    ordered = sorted(members.values(), key=lambda rs: [order(settings_of(rs[0]).get(k, ABSENT)) for k in keys])
    firsts = [settings_of(own[0]) for own in ordered]
    table = [{k: first.get(k, ABSENT) for k in keys} for first in firsts]
    short = short_names(keys)
    named = telling_keys(table)
    names = {k: value_names(k, [settings[k] for settings in table]) for k in named}
    groups = []
    for number, (own, settings) in enumerate(zip(ordered, table, strict=True)):
        by_unit: dict[Unit, list[Run]] = {}
        for run in sorted(own, key=lambda r: [order(json.loads(u)) for u in unit(r, pair_by)]):
            by_unit.setdefault(unit(run, pair_by), []).append(run)
        batches = {settings_of(run)["effective_batch"] for run in own}
        label = ", ".join(f"{short[k]}={names[k][canonical(settings[k])]}" for k in named) or "all runs"
        groups.append(Group(number, settings, label, by_unit, batches.pop() if len(batches) == 1 else None))
    return groups


def telling_keys(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys to name groups by, given the settings of each: all of them, or where there are many, few: what is
    built and on which data, then of the others the ones that split the groups furthest."""
    keys = list(table[0]) if table else []
    if len(keys) <= MOST_NAMED:
        return keys
    chosen = [k for k in keys if k.endswith("._target_") or k == "data.source"][: MOST_NAMED // 2]

    def kinds(names: Sequence[str]) -> int:
        return len({tuple(canonical(settings[k]) for k in names) for settings in table})

    while kinds(chosen) < len(table):  # more than a few where a few do not tell all groups apart
        chosen.append(max((k for k in keys if k not in chosen), key=lambda k: kinds([*chosen, k])))
    return [k for k in keys if k in chosen]


def baselines(groups: Sequence[Group], conditions: Sequence[Condition]) -> dict[int, Group]:
    """For each group that is not a baseline itself, by number, the one it is compared with: of the groups that fit
    all ``conditions`` (with none: the first group), the one that shares most of the group's settings.

    Raises:
        ConfigError: when no group fits, all do, or two are equally near to some group.
    """
    if conditions:
        words = " ".join(f"{c.key}{c.sign}{shown(c.value)}" for c in conditions)
        fitting = [g for g in groups if all(any(c.holds(settings_of(r)) for r in g.members) for c in conditions)]
        if not fitting:
            found = sorted((settings_of(g.members[0]).get(conditions[0].key, ABSENT) for g in groups), key=order)
            values = dict.fromkeys(map(shown, found))
            raise ConfigError(f"--baseline {words}: no group fits; {conditions[0].key} is one of {', '.join(values)}")
        if len(fitting) == len(groups) > 1:
            raise ConfigError(f"--baseline {words}: every group fits, which leaves none to compare with it")
    else:
        words, fitting = "(none given)", list(groups[:1])
    pairs = {}
    for group in groups:
        if group in fitting:
            continue
        shared = [
            sum(canonical(group.settings[k]) == canonical(b.settings[k]) for k in group.settings) for b in fitting
        ]
        nearest_ones = [b for b, s in zip(fitting, shared, strict=True) if s == max(shared)]
        if len(nearest_ones) > 1:
            options = "; ".join(b.label for b in nearest_ones[:4])
            raise ConfigError(
                f"--baseline {words}: {len(nearest_ones)} groups fit and are equally near to ({group.label}): "
                f"{options}; name more keys, one --baseline each"
            )
        pairs[group.number] = nearest_ones[0]
    return pairs


def unit(run: Run, pair_by: Sequence[str]) -> Unit:
    """What a run is paired by, as JSON."""
    found = settings_of(run)
    return tuple(canonical(found.get(key, ABSENT)) for key in pair_by)


def unit_name(found: Unit, pair_by: Sequence[str]) -> str:
    return ", ".join(f"{k.rpartition('.')[2]} {shown(json.loads(u))}" for k, u in zip(pair_by, found, strict=True))


def canonical(value: Any) -> str:
    """A value as text that is equal exactly where the values and their types are."""
    return json.dumps(value, sort_keys=True, default=str)


def shown(value: Any) -> str:
    """A value as a reader writes it on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)  # 1.0 of limit_train_batches is all batches, and 1 is one
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(shown, value)) + "]"
    return str(value)


def short_value(key: str, value: Any) -> str:
    """A value in a table: of a dotted path to build, the last part."""
    return shown(value).rpartition(".")[2] if key.endswith("._target_") else shown(value)


def value_names(key: str, values: Iterable[Any]) -> dict[str, str]:
    """The name of each of ``values`` by its canonical text: short, or whole where two would have one name."""
    distinct = {canonical(v): v for v in values}
    for name in (short_value, lambda _, value: shown(value), lambda _, value: canonical(value)):
        found = {text: name(key, value) for text, value in distinct.items()}
        if len(set(found.values())) == len(found):
            break
    return found


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key (of ``loss._target_``, the group), with as many more as tell it from the
    others."""
    out = {}
    for key in keys:
        parts = key.removesuffix("._target_").split(".")
        for take in range(1, len(parts) + 1):
            name = ".".join(parts[-take:])
            if sum(other == name or other.endswith(f".{name}") for other in keys) == 1:
                break
        out[key] = name
    return out


def _identity(run: Run) -> tuple[str, ...]:
    return tuple(f"{k}={canonical(v)}" for k, v in sorted(run.config.items()) if is_scientific(k))


def _numbers(*values: Any) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def order(value: Any) -> tuple[int, float, str]:
    return (0, float(value), "") if _numbers(value) else (1, 0.0, shown(value))
