"""The kinds of values that YAML has, and whether one is meant for a type annotation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from siamese.errors import ConfigError, nearest

PLAIN = {NoneType: "null", bool: "bool", int: "int", float: "float", str: "str"}


def check_type(key: str, value: Any, annotation: Any) -> None:
    """Refuse a ``value`` that ``annotation`` has no place for."""
    if not fits(value, annotation):
        raise ConfigError(mistyped(key, value, annotation))


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value as YAML has them may be meant for ``annotation``. Text, lists and groups may
    stand for an object that is made of them; numbers, booleans and null are what they are."""
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind in (Union, UnionType):
        return any(fits(value, one) for one in arguments)
    if kind is Literal:
        return value in arguments
    if kind in PLAIN or kind is None:
        accepted: dict[Any, tuple[type, ...]] = {None: (NoneType,), float: (int, float)}
        return type(value) in accepted.get(kind, (kind,))
    if kind in (list, tuple, Sequence, Collection, Iterable):
        if not isinstance(value, list):
            return False
        if kind is not tuple or ... in arguments:
            return all(fits(one, arguments[0]) for one in value if arguments)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if kind is Any or not isinstance(kind, type) or isinstance(value, (str, list, dict)):
        return True
    return isinstance(value, kind)


def mistyped(key: str, value: Any, annotation: Any) -> str:
    union = get_origin(annotation) in (Union, UnionType)
    kinds = get_args(annotation) if union else (annotation,)
    plain = [k for k in kinds if k in PLAIN or get_origin(k) is not None]
    choices = [str(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    expected = " or ".join(sorted(_expected(kind) for kind in plain or kinds))
    return f"{key}={shown(value)}: expected {expected}, found {kind_of(value)}{nearest(str(value), choices)}"


def _expected(annotation: Any) -> str:
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if kind is tuple and arguments and ... not in arguments:
        return f"a list of {len(arguments)}"
    if kind in (list, tuple, Sequence, Collection, Iterable):
        return "a list"
    return PLAIN.get(kind) or str(getattr(kind, "__name__", kind))


def shown(value: Any) -> str:
    return "null" if value is None else str(value)


def kind_of(value: Any) -> str:
    return PLAIN.get(type(value)) or ("a list" if isinstance(value, Sequence) else "a group of keys")


def height_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """``data.image_size``, one number or two, as height and width."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return height, width
