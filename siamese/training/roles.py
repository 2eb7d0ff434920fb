"""Which of several processes that train one network this one is. Imports no torch."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

LEADER = "SIAMESE_LEADER"  # the process that trains on the first of several devices, for those that it starts


def lead() -> None:
    """Tell the processes that this one starts that they follow it."""
    os.environ[LEADER] = str(os.getpid())


class Launched(NamedTuple):
    """One of ``ranks`` processes that ``by``, torchrun or srun, has started, each for a device."""

    by: str
    rank: int
    ranks: int


@functools.cache
def launched() -> Launched | None:
    """What this process is where something else has started all that train one network, as Lightning has it too."""
    there = os.environ
    if "TORCHELASTIC_RUN_ID" in there:
        return Launched("torchrun", int(there["RANK"]), int(there["WORLD_SIZE"]))
    by_hand = there.get("SLURM_JOB_NAME") in ("bash", "interactive")
    # A batch script has the number of its tasks too; a step is what srun starts.
    if int(there.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_ID" in there and not by_hand:
        return Launched("srun", int(there["SLURM_PROCID"]), int(there["SLURM_NTASKS"]))
    return None


@functools.cache  # a process has one role for life, even when its leader dies and it gets another parent
def follows() -> bool:
    """Whether this process trains on another device than the first of its run. The first one checks, says and
    writes everything, since all have the same numbers."""
    if (found := launched()) is not None:
        return found.rank > 0
    return os.environ.get(LEADER) == str(os.getppid())
