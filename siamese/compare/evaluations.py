"""Runs as they were measured elsewhere: by RUN/evaluations/NAME in the place of what each run says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from siamese.errors import ConfigError, RunError, nearest, several
from siamese.runs.bounds import read_json, require_kinds
from siamese.runs.read import read_summary
from siamese.runs.run import LeftOut, Run, relative

ABOUT: dict[str, type | tuple[type, ...]] = {
    "data": (str, type(None)),
    "root": (str, type(None)),
    "fingerprint": str,
    "images": int,
    "classes": int,
}


def evaluated(runs: Sequence[Run], name: str) -> tuple[list[Run], list[LeftOut]]:
    """``runs`` with the summary and the arrays of their evaluation ``name``, and those whose files of it are damaged.

    Raises:
        ConfigError: for runs that have no such evaluation; names those that they have.
    """
    if Path(name).name != name:
        raise ConfigError(f"--evaluation {name}: expected the name of a folder in RUN/evaluations")
    without = [run for run in runs if not (run.path / "evaluations" / name / "summary.json").is_file()]
    if without:
        there = sorted({folder.parent.name for run in runs for folder in run.path.glob("evaluations/*/summary.json")})
        close = nearest(name, there) or (f"; there is {several(there)}" if there else "; no run has any")
        raise ConfigError(
            f"--evaluation {name}: {len(without):,} of {len(runs):,} runs have none of this name "
            f"({several(run.name for run in without)}){close}"
        )
    found: list[Run] = []
    damaged: list[LeftOut] = []
    for run in runs:
        of = replace(run, evaluation=name)
        try:
            about(of)
            found.append(replace(of, summary=read_summary(of.measured)))
        except RunError as error:
            damaged.append(LeftOut(run.path, relative(error, run.path)))
    return found, damaged


def about(run: Run) -> dict[str, Any]:
    """What evaluation.json says of the images that ``run`` was measured on; nothing where there is none, as in
    evaluations of earlier versions.

    Raises:
        RunError: when it cannot be read.
    """
    path = run.measured / "evaluation.json"
    if run.evaluation is None or not path.exists():
        return {}
    found = read_json(path)
    require_kinds(path, found, ABOUT)
    return found
