"""Where an evaluation is written, so that none takes the place of another's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siamese.errors import ConfigError
from siamese.runs.tables import read_evaluation

DIGITS = 8  # of a fingerprint, where a name is taken


def folder_of(run: Path, words: Sequence[str], fingerprint: str) -> Path:
    """RUN/evaluations/WORD_WORD…, with part of the ``fingerprint`` behind it where an evaluation of other images has
    the name already."""
    name = "_".join(word.replace("/", "_") for word in words if word)
    plain = run / "evaluations" / name
    return plain if _is_free(plain, fingerprint) else plain.with_name(f"{name}_{fingerprint[:DIGITS]}")


def require_free(folder: Path, about: dict[str, Any]) -> None:
    """Refuse a folder that the user named where it holds the evaluation of another checkpoint or of other images.

    Args:
        about: the ``checkpoint`` and the ``fingerprint`` of what is to be measured.

    Raises:
        ConfigError: naming what is there.
    """
    there = read_evaluation(folder)
    if there is not None and any(there[key] != about[key] for key in ("checkpoint", "fingerprint")):
        what = " ".join(str(there[key]) for key in ("checkpoint", "data", "root") if there[key])
        raise ConfigError(f"--out {folder}: already holds the evaluation of {what}; choose another directory")


def _is_free(folder: Path, fingerprint: str) -> bool:
    there = read_evaluation(folder)
    if there is None:  # written by an earlier version, which did not say what it is of, or never to its end
        return not (folder / "summary.json").exists()
    return bool(there["fingerprint"] == fingerprint)
