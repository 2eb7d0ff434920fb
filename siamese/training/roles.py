"""Which of several processes that train one network this one is. Imports no torch."""

from __future__ import annotations

import functools
import os

LEADER = "SIAMESE_LEADER"  # the process that trains on the first of several devices, for those that it starts


def lead() -> None:
    """Tell the processes that this one starts that they follow it."""
    os.environ[LEADER] = str(os.getpid())


@functools.cache  # a process has one role for life, even when its leader dies and it gets another parent
def follows() -> bool:
    """Whether this process trains on another device than the first of its run. The first one checks, says and
    writes everything, since all have the same numbers."""
    return os.environ.get(LEADER) == str(os.getppid())
