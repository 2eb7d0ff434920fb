"""The keys of ``sweep`` and ``study``: see :mod:`siamese.config.schema`."""

# ruff: noqa: RUF009 (key makes fields)
from __future__ import annotations

from dataclasses import dataclass

from siamese.config.fields import key
from siamese.config.ranges import FOLDER_NAME, ISOLATION, above, at_least, one_of


@dataclass(frozen=True)
class Sweep:
    """What ``python train.py -m`` does with its jobs; see :mod:`siamese.sweep`."""

    name: str | None = key(None, FOLDER_NAME, "the folder below outputs/sweeps; null = named by what is varied")
    points: list[list[str]] = key([], None, "lists of overrides that belong together, each combined with the grid")
    rerun: str = key(
        "failed",
        one_of("failed", "all", "none"),
        "failed (go on with what failed or was interrupted) | all (anew) | none (only what never began)",
    )
    fail_fast: bool = key(False, None, "stop every job once one has failed")
    timeout: float | None = key(None, above(0), "seconds that a job may take")
    isolate: bool | str = key(
        "auto",
        ISOLATION,
        "jobs are processes of their own: fork (of one that has imported torch) | true (started anew) | auto (fork on "
        "Linux, on one CPU device, else true); false = all in the launcher's",
    )


@dataclass(frozen=True)
class Study:
    """A study: which runs a plan asks for; see :mod:`siamese.study`."""

    plan: str | None = key(None, None, "the plan.yaml whose runs are the jobs")
    claims: list[str] | None = key(None, None, "only the runs that these claims of it need; null = all")
    seeds: int | None = key(None, at_least(1), "only so many of its seeds; null = all")
    pilot: bool = key(False, None, "the runs of its pilot instead")
    missing: bool = key(False, None, "only the runs that runs.csv beside the plan does not have")
    arm: str | None = key(None, None, "of one job: the arm it belongs to; set by the study")
    digest: str | None = key(None, None, "of one job: of the plan as it was when the job began; set by the study")
