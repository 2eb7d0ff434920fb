"""The checks that a composed configuration passes once.

Hydra composes ``conf/`` into an open dictionary; :func:`validate` turns that dictionary into a
frozen :class:`~siamese.schema.Config` or raises :class:`ConfigError` with one line. Nothing here
imports torch, but for :func:`check_targets`, which imports what a configuration names.
"""

from __future__ import annotations

import difflib
import inspect
import math
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException, ValidationError

from siamese.schema import CHECKS, OPTIONAL_TARGETS, OWN_KEYS, SPANS, TARGETS, Config, schema


class ConfigError(Exception):
    """A command or configuration that cannot be run as it stands (exit status 2)."""


class RunError(Exception):
    """Something that failed while running, through no bug of ours (exit status 1)."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest of ``choices``, or an empty string."""
    others = [choice for choice in choices if not word.startswith(f"{choice}.")]  # its own group is no correction
    found = difflib.get_close_matches(word, others, n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as ``{"data.batch_size": 64, ...}``; lists stay values."""
    if not isinstance(node, Mapping) or (not node and prefix):
        return {prefix: node}
    out: dict[str, Any] = {}
    for key, value in node.items():
        out |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return out


def validate(composed: DictConfig | dict[str, Any]) -> Config:
    """The composed configuration as a frozen :class:`Config`.

    Raises:
        ConfigError: for an unknown key, a wrong type, a value out of range or an impossible
            combination; the message is one line naming the key, the value and what is accepted.
    """
    if not isinstance(composed, (Mapping, DictConfig)):
        raise ConfigError(f"{_shown(composed)}: expected a group of keys, found {_kind(composed)}")
    try:
        plain = OmegaConf.to_container(OmegaConf.create(composed), resolve=True, throw_on_missing=True)
        _check_groups(plain)
        merged = OmegaConf.merge(_writable(OmegaConf.structured(Config)), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    assert isinstance(config, Config)
    values = flatten(OmegaConf.to_container(merged))
    for group, own in OWN_KEYS.items():
        for key, kind in own.items():
            if f"{group}.{key}" in values:
                _check_type(f"{group}.{key}", values[f"{group}.{key}"], kind)
    for key, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            raise ConfigError(f"{key}={value}: expected a finite number")
    for key, (accepts, expected) in CHECKS.items():
        value = values.get(key)
        if value is None:
            continue
        try:
            good = accepts(value)
        except TypeError:
            good = False
        if not good:
            choices = expected.removeprefix("one of ").split(", ") if expected.startswith("one of") else []
            raise ConfigError(f"{key}={value}: expected {expected}{nearest(str(value), choices)}")
    _check_combinations(config)
    return config


def _writable(schema: DictConfig) -> DictConfig:
    """Frozen dataclasses make read-only nodes; the merge that fills them in needs to write."""
    OmegaConf.set_readonly(schema, False)
    for key in schema:
        if OmegaConf.is_dict(schema[key]):
            _writable(schema[key])
    return schema


def _check_groups(plain: Any, prefix: str = "", cls: type = Config) -> None:
    """Refuse a lone value where the schema has a group of keys."""
    for f in fields(cls):
        kind, key = get_type_hints(cls)[f.name], prefix + f.name
        if f.name not in plain or not (is_dataclass(kind) or get_origin(kind) is dict):
            continue
        value = plain[f.name]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}={_shown(value)}: expected keys below it ({key}.KEY=VALUE), found {_kind(value)}")
        if is_dataclass(kind):
            _check_groups(value, f"{key}.", kind)  # type: ignore[arg-type]


def one_line(error: OmegaConfBaseException) -> str:
    """OmegaConf's complaint as one line in the words of :func:`validate`."""
    key = error.full_key or ""
    text = str(error).splitlines()[0]
    kinds = schema()
    if "not in" in text and key:
        return f"unknown key {key!r}{nearest(key, kinds)}"
    if isinstance(error, ValidationError) and key in kinds:
        value = error.value._value() if isinstance(error.value, ValueNode) else error.value
        return _mistyped(key, value, kinds[key])
    if "Missing mandatory value" in text:
        return f"{key}: a value is required (write {key}=VALUE)"
    return f"{key}: {text}" if key and key not in text else text


def _check_combinations(config: Config) -> None:
    data = config.data
    if data.split == "kfold" and data.fold >= data.folds:
        raise ConfigError(
            f"data.fold={data.fold}: expected a fold from 0 to {data.folds - 1} (data.folds={data.folds})"
        )
    if data.split == "article" and data.triplets != "article":
        raise ConfigError(
            f"data.triplets={data.triplets}: data.split=article splits the article's own triplets;"
            " expected data.triplets=article"
        )
    if data.source == "image_folder" and not data.root:
        raise ConfigError("data.root: data=image_folder needs a folder (write data.root=PATH)")
    for name in ("mean", "std"):
        value = getattr(data, name)
        if value is not None and len(value) != 3:
            raise ConfigError(f"data.{name}={value}: expected 3 numbers, one a channel")
    if (data.mean is None) != (data.std is None):
        raise ConfigError("data.mean and data.std: give both, or neither to measure them on the training images")
    if data.std is not None and min(data.std) <= 0:
        raise ConfigError(f"data.std={data.std}: expected numbers above 0")
    if config.sweep.timeout is not None and not config.sweep.isolate:
        raise ConfigError(
            f"sweep.timeout={config.sweep.timeout}: a job in the sweep's own process cannot be stopped; "
            "expected sweep.isolate=true"
        )
    for group in TARGETS:
        if group not in OPTIONAL_TARGETS and not getattr(config, group).get("_target_"):
            raise ConfigError(f"{group}._target_: expected the dotted path of what to build, found nothing")


PLAIN = {NoneType: "null", bool: "bool", int: "int", float: "float", str: "str"}


def _check_type(key: str, value: Any, annotation: Any) -> None:
    """Refuse a ``value`` that ``annotation`` has no place for."""
    if not _fits(value, annotation):
        raise ConfigError(_mistyped(key, value, annotation))


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value as YAML has them may be meant for ``annotation``. Text, lists and groups may
    stand for an object that is made of them; numbers, booleans and null are what they are."""
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if kind is Literal:
        return value in arguments
    if kind in PLAIN or kind is None:
        accepted: dict[Any, tuple[type, ...]] = {None: (NoneType,), float: (int, float)}
        return type(value) in accepted.get(kind, (kind,))
    if kind in (list, tuple, Sequence, Collection, Iterable):
        if not isinstance(value, list):
            return False
        if kind is not tuple or ... in arguments:
            return all(_fits(one, arguments[0]) for one in value if arguments)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if kind is Any or not isinstance(kind, type) or isinstance(value, (str, list, dict)):
        return True
    return isinstance(value, kind)


def _mistyped(key: str, value: Any, annotation: Any) -> str:
    union = get_origin(annotation) in (Union, UnionType)
    kinds = get_args(annotation) if union else (annotation,)
    plain = [k for k in kinds if k in PLAIN or get_origin(k) is not None]
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    expected = " or ".join(sorted(_expected(kind) for kind in plain or kinds))
    return f"{key}={_shown(value)}: expected {expected}, found {_kind(value)}{nearest(str(value), choices)}"


def _expected(annotation: Any) -> str:
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if kind is tuple and arguments and ... not in arguments:
        return f"a list of {len(arguments)}"
    if kind in (list, tuple, Sequence, Collection, Iterable):
        return "a list"
    return PLAIN.get(kind) or str(getattr(kind, "__name__", kind))


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _kind(value: Any) -> str:
    return PLAIN.get(type(value)) or ("a list" if isinstance(value, Sequence) else "a group of keys")


def check_targets(config: Config) -> None:
    """Check the arguments of every ``_target_`` against its signature (this imports the targets).

    Raises:
        ConfigError: for a target that cannot be found, an argument it does not take, one it needs
            and was not given, or one of the wrong plain type.
    """
    for group, supplied in TARGETS.items():
        node = getattr(config, group)
        path = node.get("_target_")
        if not path:
            for key in node.keys() - {"_target_"} - OWN_KEYS.get(group, {}).keys():
                raise ConfigError(f"unknown key {f'{group}.{key}'!r}: {group}._target_ is null, and nothing takes it")
            continue
        target = _find(group, path)
        signature = inspect.signature(target)
        try:
            hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
        except (NameError, TypeError):
            hints = {}
        parameters = {
            name: p
            for name, p in signature.parameters.items()
            if name not in supplied and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }
        own = OWN_KEYS.get(group, {})
        given = {k: v for k, v in node.items() if k != "_target_" and k not in own}
        for key, value in given.items():
            if key not in parameters:
                known = [f"{group}.{k}" for k in [*parameters, *own]]
                raise ConfigError(
                    f"unknown key {f'{group}.{key}'!r}: {path} takes "
                    f"{', '.join([*parameters, *own]) or 'no arguments'}{nearest(f'{group}.{key}', known)}"
                )
            spans_the_run = group == "scheduler" and key in SPANS and value is None
            if key in hints and not spans_the_run:
                _check_type(f"{group}.{key}", value, hints[key])
        for key, parameter in parameters.items():
            if parameter.default is parameter.empty and key not in given:
                raise ConfigError(f"{group}.{key}: {path} needs it (write {group}.{key}=VALUE)")


def _find(group: str, path: Any) -> Callable[..., Any]:
    """What the dotted ``path`` names."""
    try:
        target = pkgutil.resolve_name(path)
    except Exception as error:  # whatever importing a named path may raise
        reason = " ".join(str(error).split())
        module = str(path).rpartition(".")[0]
        try:
            known = [f"{module}.{other}" for other in dir(pkgutil.resolve_name(module))]
        except Exception:
            known = []
        hint = nearest(str(path), known)
        raise ConfigError(f"{group}._target_={path}: cannot be imported ({reason}){hint}") from None
    if not callable(target):
        raise ConfigError(f"{group}._target_={path}: expected a class or a function, found {type(target).__name__}")
    return target


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, lists and numbers."""
    container = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}
