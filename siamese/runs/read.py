"""The only reader of a run directory. Nothing that one holds is executed."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import yaml

from siamese.config.earlier import brought_up_to_date
from siamese.config.schema import SCHEMA_VERSION, Config
from siamese.config.validate import validate
from siamese.errors import ConfigError, RunError

LARGEST_TEXT = 4 * 2**20  # bytes of a configuration, manifest or summary; theirs have some thousands
LONGEST_NUMBER = 300  # digits
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast


def holds_a_run(path: Path) -> bool:
    """Whether a run has begun in ``path`` (what stopped before it wrote its manifest left nothing)."""
    return (path / "manifest.json").exists()


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """The text of ``path``.

    Raises:
        RunError: when it is missing, no file, longer than ``most`` bytes, or not UTF-8.
    """
    try:
        size = path.stat().st_size
        if path.is_file() and size > most:
            raise RunError(f"{path}: {size:,} bytes; expected at most {most:,}")
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{path}: not found; expected a run directory's {path.name}") from None
    except OSError as error:
        raise RunError(f"{path}: could not be read ({error.strerror or error})") from None
    except ValueError as error:
        raise RunError(f"{path}: could not be read as UTF-8 ({_short(error)})") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``.

    Raises:
        RunError: when the file is missing or holds no JSON object of sensible size and depth.
    """
    text = read_text(path)
    try:
        value = json.loads(text, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: could not be read as JSON ({_short(error)})") from None
    if not isinstance(value, dict):
        raise RunError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def read_yaml(path: Path) -> Any:
    """The plain values in ``path``.

    Raises:
        RunError: when the file is missing or no YAML of plain values.
    """
    text = read_text(path)
    if re.search(r"(?m)(^|[\s\[{,:-])\*\S", text):  # an alias: a few lines of them can stand for gigabytes
        raise RunError(f"{path}: holds YAML aliases; a resolved configuration has none")
    try:
        return yaml.load(text, Loader=_LOADER)  # the safe loader: plain values only
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: could not be read as YAML ({_short(error)})") from None


def read_manifest(run: Path) -> dict[str, Any]:
    """manifest.json.

    Raises:
        RunError: when it cannot be read, or was written by another major version.
    """
    manifest = read_json(run / "manifest.json")
    version = manifest.get("schema_version")
    if str(version).split(".")[0] != str(SCHEMA_VERSION):
        raise RunError(f"schema version {version}; this reads version {SCHEMA_VERSION}")
    return manifest


def read_status(run: Path) -> dict[str, Any]:
    """status.json; empty where there is none that can be read."""
    try:
        return read_json(run / "status.json")
    except RunError:
        return {}


def read_values(run: Path) -> dict[str, Any]:
    """config.resolved.yaml in today's layout.

    Raises:
        RunError: when it cannot be read, or is no mapping.
    """
    recorded = read_yaml(run / "config.resolved.yaml")
    if not isinstance(recorded, dict):
        kind = type(recorded).__name__
        raise RunError(f"{run / 'config.resolved.yaml'}: expected a mapping, found {kind}")
    return dict(brought_up_to_date(recorded))


def read_config(run: Path, said: str) -> Config:
    """The configuration of the run in ``run``, which the command line names in the words ``said``.

    Raises:
        ConfigError: when the directory is no run, is damaged, or was written by a newer version.
    """
    if not (run / "manifest.json").is_file() or not (run / "config.resolved.yaml").is_file():
        raise ConfigError(f"{said}: not a run directory; expected manifest.json and config.resolved.yaml in it")
    try:
        version = read_json(run / "manifest.json").get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise ConfigError(f"{said}: its schema_version is {version}; this program reads up to {SCHEMA_VERSION}")
        recorded = read_values(run)
    except RunError as error:
        raise ConfigError(f"{said}: cannot be read ({_short(error)})") from None
    try:
        return validate(recorded)
    except ConfigError as error:
        raise ConfigError(f"{said}: its config.resolved.yaml is no configuration ({error})") from None


def read_overrides(run: Path) -> list[str]:
    """The words of the command that began the run.

    Raises:
        RunError: when they cannot be read.
    """
    words = read_yaml(run / ".hydra" / "overrides.yaml")
    if not isinstance(words, list):
        raise RunError(f"{run / '.hydra' / 'overrides.yaml'}: expected a list of overrides")
    return [str(word) for word in words]


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The complete rows of a metrics.csv, as text; empty when there is none. A torn last line is left out.

    Raises:
        RunError: when it is there and cannot be read.
    """
    if not path.exists():
        return []
    lines = read_text(path, 16 * LARGEST_TEXT).splitlines(keepends=True)
    try:
        rows = list(csv.DictReader(io.StringIO("".join(line for line in lines if line.endswith("\n")))))
    except csv.Error as error:
        raise RunError(f"{path}: could not be read as CSV ({_short(error)})") from None
    return [r for r in rows if (r.get("epoch") or "").isdecimal() and None not in r.values() and None not in r]


def _whole(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
