"""What each file of a run directory has to hold, and the only reader of them. Nothing that one holds is executed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siamese.config.earlier import brought_up_to_date
from siamese.config.schema import SCHEMA_VERSION, Config
from siamese.config.validate import validate
from siamese.errors import ConfigError, RunError
from siamese.runs.bounds import kind_of, parse_csv, read_json, read_text, read_yaml, require_kinds

LARGEST_TABLE = 64 * 2**20  # bytes of metrics.csv
LARGEST_SUMMARY = 64 * 2**20  # bytes of summary.json, in which earlier versions kept 700 of each class
SMALLEST, LARGEST = 1e-100, 1e100  # of what a run measures, but for 0: squares and ratios of it are still floats
STATES = ("running", "completed", "failed", "interrupted")
WHOLE = ("epoch", "step", "images")  # columns of metrics.csv
FOLDERS = ("arrays", "checkpoints", "figures")
FILES = (
    "manifest.json",
    "config.resolved.yaml",
    "status.json",
    "summary.json",
    "metrics.csv",
    "per_class.csv",
    "evaluation.json",
    "train.log",
    "arrays/*.npz",
    "checkpoints/*.ckpt",
)
GROUPS = ("seed", "data", "model", "loss", "optimizer", "device", "trainer")  # of every configuration, of any version
MANIFEST: dict[str, type | tuple[type, ...]] = {
    "run_id": str,
    "name": str,
    "started": str,
    "argv": list,
    "git": dict,
    "packages": dict,
    "device": dict,
    "data": dict,
    "split": dict,
    "weights": (dict, type(None)),
    "resumes": list,
}
ENTRY: dict[str, type | tuple[type, ...]] = {
    "value": (int, float, type(None)),
    "epoch": int,
    "split": str,
    "direction": (str, type(None)),
    "reason": str,
    "threshold": (int, float, type(None)),
}


def holds_a_run(path: Path) -> bool:
    """Whether a run has begun in ``path`` (what stopped before it wrote its manifest left nothing)."""
    return (path / "manifest.json").exists() or any(path.glob("checkpoints/*.ckpt"))


def require_places(run: Path) -> None:
    """Refuse a directory in which a folder stands where a run writes a file, or a file where it has a folder.

    Raises:
        RunError: naming the first.
    """
    for name in FOLDERS:
        if (run / name).exists() and not (run / name).is_dir():
            raise RunError(f"{run / name}: expected a folder, found a file")
    for pattern in FILES:
        for path in run.glob(pattern):
            if path.exists() and not path.is_file():
                raise RunError(f"{path}: expected a file, found {'a folder' if path.is_dir() else 'something else'}")


def read_manifest(run: Path) -> dict[str, Any]:
    """manifest.json.

    Raises:
        RunError: when it cannot be read, or was written by a newer version.
    """
    path = run / "manifest.json"
    manifest = read_json(path)
    version = manifest.get("schema_version")
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise RunError(f"{path}: its schema_version is {version}; this program reads up to {SCHEMA_VERSION}")
    require_kinds(path, manifest, MANIFEST)
    if "run_id" not in manifest:
        raise RunError(f"{path}: has no run_id")
    return manifest


def read_status(run: Path) -> dict[str, Any]:
    """status.json.

    Raises:
        RunError: when it cannot be read.
    """
    path = run / "status.json"
    status = read_json(path)
    if status.get("state") not in STATES:
        raise RunError(f"{path}: its state is {status.get('state')!r:.60}; expected one of {', '.join(STATES)}")
    require_kinds(path, status, {"error": (str, type(None)), "pid": int})
    return status


def status_if_readable(run: Path) -> dict[str, Any]:
    """status.json; empty where there is none that can be read."""
    try:
        return read_status(run)
    except RunError:
        return {}


def read_summary(run: Path) -> dict[str, dict[str, Any]]:
    """summary.json.

    Raises:
        RunError: when it cannot be read, an entry is none, or a value is too large or too small to calculate with.
    """
    path = run / "summary.json"
    summary = read_json(path, LARGEST_SUMMARY)
    for name, entry in summary.items():
        if not isinstance(entry, dict):
            raise RunError(f"{path}: {name}: expected an object, found {kind_of(entry)}")
        if missing := {"value", "epoch"} - entry.keys():
            raise RunError(f"{path}: {name}: has no {min(missing)}")
        require_kinds(path, {f"{name}: {key}": value for key, value in entry.items()}, _of_entry(name))
        for value in (entry["value"], entry.get("threshold")):
            if value is not None and not usable(value):
                raise RunError(f"{path}: {name} is {value:g}; expected 0 or {SMALLEST:g} to {LARGEST:g} in size")
    return summary


def read_values(run: Path) -> dict[str, Any]:
    """config.resolved.yaml in today's layout.

    Raises:
        RunError: when it cannot be read, or is no mapping.
    """
    path = run / "config.resolved.yaml"
    recorded = read_yaml(path)
    if not isinstance(recorded, dict):
        raise RunError(f"{path}: expected a mapping, found {type(recorded).__name__}")
    _require_whole(path, recorded)
    return dict(brought_up_to_date(recorded))


def read_config(run: Path, said: str) -> Config:
    """The configuration of the run in ``run``, which the command line names in the words ``said``.

    Raises:
        ConfigError: when the directory is no run, is damaged, or was written by a newer version.
    """
    if not any((run / name).exists() for name in ("manifest.json", "config.resolved.yaml")):
        raise ConfigError(f"{said}: not a run directory; expected manifest.json and config.resolved.yaml in it")
    try:
        read_manifest(run)
        recorded = brought_up_to_date(read_yaml(run / "config.resolved.yaml"))
    except RunError as error:
        raise ConfigError(f"{said}: cannot be read ({error})") from None
    try:
        config = validate(recorded)
        _require_whole(run / "config.resolved.yaml", recorded)
    except ConfigError as error:
        raise ConfigError(f"{said}: its config.resolved.yaml is no configuration ({error})") from None
    except RunError as error:
        raise ConfigError(f"{said}: cannot be read ({error})") from None
    return config


def _require_whole(path: Path, recorded: Mapping[str, Any]) -> None:
    """Refuse a configuration that was torn: the rest may be YAML, and what is not there would be as by default."""
    missing = [group for group in GROUPS if group not in recorded]
    if missing or not read_text(path).endswith("\n"):
        what = f"{missing[0]} is missing" if missing else "its last line has no end"
        raise RunError(f"{path}: torn ({what})")


def read_overrides(run: Path) -> list[str]:
    """The words of the command that began the run.

    Raises:
        RunError: when they cannot be read.
    """
    path = run / ".hydra" / "overrides.yaml"
    words = read_yaml(path)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RunError(f"{path}: expected a list of overrides")
    return words


def read_metrics(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics.csv, as text; empty when there is none. A torn last line is left out.

    Raises:
        RunError: when it is there and cannot be read.
    """
    return parse_metrics(read_text(path, LARGEST_TABLE), path) if path.exists() else []


def parse_metrics(text: str, name: object) -> list[dict[str, str]]:
    """The rows of a metrics.csv that holds ``text``.

    Raises:
        RunError: naming ``name``, for rows without an epoch or out of order, and for what is no number that can be
            calculated with.
    """
    rows = parse_csv(text, name)
    before = -1
    for number, row in enumerate(rows, 2):
        for column in WHOLE:
            if column in row and not (row[column].isdecimal() and len(row[column]) < 18):
                raise RunError(f"{name}: line {number}: {column}: expected a whole number, found {row[column]!r:.60}")
        if int(row.get("epoch", before)) <= before:
            raise RunError(f"{name}: line {number}: epoch {row.get('epoch')} after epoch {before}")
        before = int(row["epoch"])
        for column, value in row.items():
            if value and not is_number(value):
                raise RunError(
                    f"{name}: line {number}: {column}: expected a number up to {LARGEST:g} in size, found {value!r:.60}"
                )
    return rows


def usable(value: float) -> bool:
    """Whether ``value`` is finite, and neither so large nor so small that calculating with it overflows."""
    return value == 0 or SMALLEST <= abs(value) <= LARGEST


def is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= LARGEST
    except ValueError:
        return False


def _of_entry(name: str) -> dict[str, type | tuple[type, ...]]:
    return {f"{name}: {key}": kind for key, kind in ENTRY.items()}
