"""What a configuration names by ``_target_``: found, its arguments checked against its signature, and made."""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, get_type_hints

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from siamese.config.data import HANDED_TO_SOURCE, OF_FILES, Data
from siamese.config.schema import KEYS, OWN_KEYS, SPANS, TARGETS, Config
from siamese.config.values import check_type, fits, shown
from siamese.errors import ConfigError, nearest


def check_targets(config: Config) -> None:
    """Check the arguments of every ``_target_`` against its signature (this imports the targets).

    Raises:
        ConfigError: for a target that cannot be found, an argument it does not take, one it needs
            and was not given, or one of the wrong plain type.
    """
    nodes = {key: (node_of(config, key), supplied) for key, supplied in TARGETS.items()}
    nodes |= {f"callbacks.extra.{name}": (node, ()) for name, node in config.callbacks.extra.items()}
    for group, (node, supplied) in nodes.items():
        own = OWN_KEYS.get(group, {})
        if not node.get("_target_"):
            for key in node.keys() - {"_target_"} - own.keys():
                raise ConfigError(f"unknown key {f'{group}.{key}'!r}: {group}._target_ is null, and nothing takes it")
            continue
        for key, inner in targets(group, node):
            given = {k: v for k, v in inner.items() if k != "_target_" and k not in own}
            target = find_target(key, inner["_target_"])
            check_arguments(key, inner["_target_"], target, given, supplied, own)
    check_handed(config.data)


def check_handed(data: Data) -> None:
    """Refuse a source that needs what a key of ``data`` does not say, and a key that it has no use for.

    Raises:
        ConfigError: naming the key; see also :func:`check_targets`.
    """
    for key in lacking(data):
        raise ConfigError(f"data.{key}: {data.source_name} needs it (write data.{key}=VALUE)")
    taken = parameters(find_target("data.source", data.source["_target_"]))
    for key in OF_FILES:
        value, default = getattr(data, key), KEYS[f"data.{key}"].default
        if key not in taken and value != default:
            raise ConfigError(
                f"data.{key}={shown(value)}: {data.source_name} has no use for it; expected {shown(default)}"
            )


def lacking(data: Data) -> list[str]:
    """The keys of ``data`` that its source needs and that say nothing.

    Raises:
        ConfigError: for a source that cannot be found.
    """
    source = find_target("data.source", data.source["_target_"])
    hints, unsaid = _hints(source), [key for key in HANDED_TO_SOURCE if getattr(data, key) is None]
    return [key for key in unsaid if key in parameters(source) and not fits(None, hints.get(key, Any))]


def node_of(config: Config, key: str) -> Mapping[str, Any]:
    """The node of ``config`` that the dotted ``key`` names."""
    return functools.reduce(getattr, key.split("."), config)  # type: ignore[arg-type]


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
    hints = _hints(target)
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


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of the arguments of ``target``, as far as they can be resolved."""
    try:
        return get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError):
        return {}


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


def make(group: str, node: Mapping[str, Any], *arguments: Any, **supplied: Any) -> Any:
    """What ``node`` names in its ``_target_``, made of its other keys and of what is supplied here.

    Raises:
        ConfigError: when the target refuses them.
    """
    try:
        return instantiate(node, _partial_=True, _convert_="all")(*arguments, **supplied)
    except (TypeError, ValueError, InstantiationException) as error:
        given = ", ".join(f"{group}.{k}={v}" for k, v in node.items() if k != "_target_")
        reason = " ".join(str(error).split())
        raise ConfigError(f"{group}: {node['_target_']} refuses {given or 'to be made'} ({reason})") from error
