"""What runs are grouped and chosen by: their configuration, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from siamese.runs.run import Run

DERIVED = ("effective_batch", "git_sha", "directory")  # settings that are no key of a configuration


def settings_of(run: Run) -> dict[str, Any]:
    """The configuration of ``run`` by dotted keys, and what follows from it."""
    sha = run.manifest.get("git", {}).get("sha")
    return (
        run.config
        | _cut_as_asked(run)
        | {
            "effective_batch": effective_batch(run.config),
            "git_sha": sha if isinstance(sha, str) else None,
            "directory": str(run.path.parent),
        }
    )


def _cut_as_asked(run: Run) -> dict[str, Any]:
    """Where ``data.batch_size=auto`` found the micro-batch and exact accumulation makes every cut the same step, it is
    no setting of ``run``: that another was found for another seed keeps nothing apart."""
    batch = run.manifest.get("batch")
    found = isinstance(batch, Mapping) and "tried" in batch
    if not found or run.config.get("accumulation.mode") != "exact":
        return {}
    return {"data.batch_size": "auto", "trainer.accumulate_grad_batches": None}


def effective_batch(config: Mapping[str, Any]) -> int | None:
    """Tuples behind one optimizer step: micro-batch × window × devices × machines."""
    factors = [config.get(k) for k in ("data.batch_size", "trainer.accumulate_grad_batches")]
    factors += [config.get(k, 1) for k in ("device.devices", "device.num_nodes")]
    return math.prod(factors) if all(isinstance(f, int) for f in factors) else None  # type: ignore[arg-type]
