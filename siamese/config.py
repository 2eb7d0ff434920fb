"""The checks that a composed configuration passes once.

Hydra composes ``conf/`` into an open dictionary; :func:`validate` turns that dictionary into a
frozen :class:`~siamese.schema.Config` or raises :class:`ConfigError` with one line. Nothing here
imports torch, but for :func:`check_targets`, which imports what a configuration names.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import pkgutil
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException, ValidationError

from siamese.schema import (
    BATCHES,
    CHECKS,
    NESTED_KEYS,
    OPTIONAL_TARGETS,
    OWN_KEYS,
    SPANS,
    TARGETS,
    Config,
    schema,
)


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
                check_type(f"{group}.{key}", values[f"{group}.{key}"], kind)
    for key, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            raise ConfigError(f"{key}={value}: expected a finite number")
    for key, value in values.items():
        check = CHECKS.get(re.sub(r"^loss\.(loss|losses\.\w+)\.", "loss.", key))  # a loss in a loss likewise
        if value is None or check is None:
            continue
        accepts, expected = check
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
    _check_accumulation(config)
    if config.device.devices > 1 and config.device.strategy != "ddp":
        raise ConfigError(
            f"device.strategy={config.device.strategy}: with device.devices={config.device.devices} each trains in a "
            "process of its own; expected ddp (device=cpu_ddp or device=cuda_ddp)"
        )
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
    _check_batches(config)
    _check_loss(config)
    for group in TARGETS:
        if group not in OPTIONAL_TARGETS and not getattr(config, group).get("_target_"):
            raise ConfigError(f"{group}._target_: expected the dotted path of what to build, found nothing")


def _check_batches(config: Config) -> None:
    """Refuse counts that the kind of batches lacks or does not use, and a batch that they do not divide."""
    kind, size = config.batches.kind, config.data.batch_size
    for key, value in vars(config.batches).items():
        if key == "kind" or (value is None) != (key in BATCHES[kind]):
            continue
        expected = "a number" if value is None else f"null, for batches.kind={kind} does not use it"
        raise ConfigError(f"batches.{key}={_shown(value)}: expected {expected}")
    if config.data.split == "article" and kind != "triplets":
        raise ConfigError(
            f"batches.kind={kind}: data.split=article splits the article's own triplets; expected batches=triplets"
        )
    for key in ("images_per_class", "images_per_cluster"):
        group = getattr(config.batches, key)
        if group is not None and (size % group or size < 2 * group):
            raise ConfigError(
                f"data.batch_size={size}: expected a multiple of batches.{key}={group}, and at least {2 * group}"
            )
    if kind != "triplets" and config.loss.get("koleo_over", "all") != "all":
        raise ConfigError(
            f"loss.koleo_over={config.loss['koleo_over']}: only triplets have these roles; "
            f"expected all, or batches=triplets (found batches.kind={kind})"
        )


def _check_loss(config: Config) -> None:
    """Refuse batches that a loss, or a loss in it, cannot use."""
    kind = config.batches.kind
    for key, node in targets("loss", config.loss):
        usable = node.get("batches")
        if usable is None:
            continue
        strange = [k for k in usable if k not in BATCHES] if isinstance(usable, list) else [usable]
        if strange:
            raise ConfigError(
                f"{key}.batches={_shown(usable)}: expected a list of {', '.join(BATCHES)}"
                f"{nearest(str(strange[0]), BATCHES)}"
            )
        if kind not in usable:
            name = str(node["_target_"]).rpartition(".")[2]
            raise ConfigError(
                f"batches.kind={kind}: {name} ({key}) cannot use it; expected "
                + " or ".join(f"batches={k}" for k in usable)
            )


def _check_accumulation(config: Config) -> None:
    """Refuse keys that the mode has no use for, rather than ignore them."""
    accumulation = config.accumulation
    mode = accumulation.mode
    if mode == "exact" and not accumulation.rescale_last_window:
        raise ConfigError(
            "accumulation.rescale_last_window=false: accumulation=exact takes a short last window as the smaller batch "
            "that it is; expected true, or accumulation=naive"
        )
    for key, unset in (("scope", "window"), ("size", None)):
        value = getattr(accumulation, key)
        if mode != "memory" and value != unset:
            raise ConfigError(f"accumulation.{key}={value}: only accumulation=memory has it; found accumulation={mode}")
    if accumulation.scope == "persistent" and accumulation.size is None:
        raise ConfigError(
            "accumulation.size: accumulation.scope=persistent needs it (write accumulation.size=NUMBER, of embeddings)"
        )
    if mode == "memory" and accumulation.scope == "window" and config.trainer.accumulate_grad_batches == 1:
        raise ConfigError(
            "accumulation.scope=window: a window of one micro-batch has nothing to remember; expected "
            "trainer.accumulate_grad_batches above 1, or accumulation.scope=persistent"
        )


PLAIN = {NoneType: "null", bool: "bool", int: "int", float: "float", str: "str"}


def check_type(key: str, value: Any, annotation: Any) -> None:
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
        node, own = getattr(config, group), OWN_KEYS.get(group, {})
        if not node.get("_target_"):
            for key in node.keys() - {"_target_"} - own.keys():
                raise ConfigError(f"unknown key {f'{group}.{key}'!r}: {group}._target_ is null, and nothing takes it")
            continue
        for key, inner in targets(group, node):
            mine = own if key == group else [name for name in NESTED_KEYS if name in own]
            given = {k: v for k, v in inner.items() if k != "_target_" and k not in mine}
            check_arguments(key, inner["_target_"], find_target(key, inner["_target_"]), given, supplied, mine)


def targets(key: str, node: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """``node`` and every mapping inside it that names a ``_target_``, each with its dotted key."""
    if isinstance(node, Mapping):
        if node.get("_target_") is not None:
            yield key, node
        for name, inner in node.items():
            yield from targets(f"{key}.{name}", inner)
    elif isinstance(node, list):
        for place, inner in enumerate(node):
            yield from targets(f"{key}[{place}]", inner)


def check_arguments(
    key: str,
    name: str,
    target: Callable[..., Any],
    given: Mapping[str, Any],
    supplied: Collection[str] = (),
    own: Collection[str] = (),
) -> None:
    """Check what stands below ``key`` against the arguments of ``target``, which goes by ``name``.

    Args:
        supplied: arguments that the program adds; one that is null by default remains an option.
        own: keys below ``key`` that are the program's, not the target's.

    Raises:
        ConfigError: see :func:`check_targets`.
    """
    takes = {k: p for k, p in parameters(target).items() if k not in supplied or p.default is None}
    try:
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        hints = {}
    for argument, value in given.items():
        if argument not in takes:
            known = [f"{key}.{k}" for k in [*takes, *own]]
            raise ConfigError(
                f"unknown key {f'{key}.{argument}'!r}: {name} takes "
                f"{', '.join([*takes, *own]) or 'no arguments'}{nearest(f'{key}.{argument}', known)}"
            )
        spans_the_run = key == "scheduler" and argument in SPANS and value is None
        default = type(takes[argument].default)  # says the type where nothing else does
        hint = hints.get(argument, {bool: bool, int: float, float: float}.get(default, Any))
        if not spans_the_run:
            check_type(f"{key}.{argument}", value, hint)
    for argument, parameter in takes.items():
        if parameter.default is parameter.empty and argument not in given:
            raise ConfigError(f"{key}.{argument}: {name} needs it (write {key}.{argument}=VALUE)")


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments that ``target`` takes by name, those included that the ``__init__`` of a class
    hands up to its bases as ``**kwargs``."""
    if isinstance(target, functools.partial):
        return {k: p for k, p in parameters(target.func).items() if k not in target.keywords}
    steps = [target]
    if inspect.isclass(target):
        steps += [vars(base)["__init__"] for base in target.__mro__[1:-1] if "__init__" in vars(base)]
    found: dict[str, inspect.Parameter] = {}
    all_handed_up = True  # without *args, a class itself fills in what its bases require
    for step in steps:
        taken = inspect.signature(step).parameters
        kinds = {p.kind for p in taken.values()}
        named = {k: p for k, p in taken.items() if p.kind not in _UNNAMED and k != "self"}
        found = {k: p for k, p in named.items() if all_handed_up or p.default is not p.empty} | found
        if inspect.Parameter.VAR_KEYWORD not in kinds:
            break
        all_handed_up = all_handed_up and inspect.Parameter.VAR_POSITIONAL in kinds
    return found


_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def find_target(key: str, path: Any) -> Callable[..., Any]:
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
        raise ConfigError(f"{key}._target_={path}: cannot be imported ({reason}){hint}") from None
    if not callable(target):
        raise ConfigError(f"{key}._target_={path}: expected a class or a function, found {type(target).__name__}")
    return target


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, lists and numbers."""
    container = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}
