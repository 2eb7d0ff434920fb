"""Text, JSON, YAML and CSV that anybody may have written or damaged, read within bounds.

Whatever is wrong with a file is one :class:`~siamese.errors.RunError` that names it. Nothing read is executed.
"""

from __future__ import annotations

import csv
import io
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from siamese.errors import RunError

LARGEST_TEXT = 4 * 2**20  # bytes of a configuration, manifest or summary; theirs have some thousands
DEEPEST = 50  # lists and mappings within one another
MOST_DIGITS = 100  # of a whole number; a product of three is still a float
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast; plain values only


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """The text of ``path``.

    Raises:
        RunError: when it is missing, no file, longer than ``most`` bytes, or not UTF-8.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise RunError(f"{path}: could not be read (expected a file, found {_what(found.st_mode)})")
        if found.st_size > most:
            raise RunError(f"{path}: {found.st_size:,} bytes; expected at most {most:,}")
        return path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path}: not found; expected a run directory's {path.name}") from None
    except OSError as error:
        raise RunError(f"{path}: could not be read ({error.strerror or error})") from None
    except ValueError as error:
        raise RunError(f"{path}: could not be read as UTF-8 ({one_line(error)})") from None


def read_json(path: Path, most: int = LARGEST_TEXT) -> dict[str, Any]:
    """The object in ``path``, of at most ``most`` bytes.

    Raises:
        RunError: when the file is missing or holds no JSON object of sensible size, depth and numbers.
    """
    text = read_text(path, most)
    try:
        value = json.loads(text, parse_int=_whole, parse_constant=_no_constant)
        _check_plain(value)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: could not be read as JSON ({one_line(error)})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected an object, found {kind_of(value)}")
    return value


def read_yaml(path: Path) -> Any:
    """The plain values in ``path``.

    Raises:
        RunError: when the file is missing or no YAML of plain values of sensible size, depth and numbers.
    """
    text = read_text(path)
    try:
        _check_events(text)
        value = yaml.load(text, Loader=_LOADER)
        _check_plain(value)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: could not be read as YAML ({one_line(error)})") from None
    return value


def parse_csv(text: str, name: object) -> list[dict[str, str]]:
    """The rows of ``text``, by the names in its first line. A last line without its end, torn by a kill, is left out.

    Raises:
        RunError: naming ``name`` and the line, for what is no table.
    """
    whole = text[: text.rfind("\n") + 1]
    try:
        lines = list(csv.reader(io.StringIO(whole, newline="")))  # a quoted field may have lines of its own
    except csv.Error as error:
        raise RunError(f"{name}: could not be read as CSV ({one_line(error)})") from None
    if not lines or not all(lines[0]) or len({*lines[0]}) < len(lines[0]):
        raise RunError(f"{name}: could not be read as CSV (expected the names of its columns in the first line)")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(lines[0]):
            raise RunError(f"{name}: line {number} has {len(line)} fields; expected {len(lines[0])}")
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def require_kinds(path: Path, value: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]]) -> None:
    """Refuse an object whose entries, where it has them, are not of these ``kinds``.

    Raises:
        RunError: naming ``path`` and the entry.
    """
    for name, kind in kinds.items():
        if name in value and not (isinstance(value[name], kind) and type(value[name]) is not bool):
            wanted = " or ".join(_KINDS[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise RunError(f"{path}: {name}: expected {wanted}, found {kind_of(value[name])}")


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def kind_of(value: Any) -> str:
    """What ``value`` is, in words."""
    return _KINDS.get(type(value), type(value).__name__)


def one_line(error: BaseException) -> str:
    """What ``error`` says, in one line of at most 200 characters."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def _check_plain(value: Any) -> None:
    """Refuse, with a ValueError, what is nested too deeply, is no plain value, or has too many digits."""
    todo = [(value, 0)]
    while todo:
        node, depth = todo.pop()
        if isinstance(node, (dict, list)):
            if depth == DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} deep")
            if isinstance(node, dict) and not all(isinstance(key, str) for key in node):
                raise ValueError("a key that is no text")
            todo += [(child, depth + 1) for child in (node.values() if isinstance(node, dict) else node)]
        elif isinstance(node, int):
            if abs(node) >= 10**MOST_DIGITS:
                raise ValueError(f"a whole number of more than {MOST_DIGITS} digits")
        elif node is not None and not isinstance(node, (str, float)):
            raise ValueError(f"a {type(node).__name__}, which is no plain value")


def _check_events(text: str) -> None:
    """Refuse YAML that is nested too deeply (libyaml's loader would overflow the stack), and aliases, a few lines of
    which can stand for gigabytes."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ValueError(f"nested more than {DEEPEST} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            raise ValueError("it holds aliases, and a resolved configuration has none")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS + 1:
        raise ValueError(f"a whole number of more than {MOST_DIGITS} digits")
    return int(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name}, which JSON does not have")


def _what(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "something else"
