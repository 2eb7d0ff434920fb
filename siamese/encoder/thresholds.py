"""The distance up to which two images count as the same, as a run found it on its validation images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.config.words import pasteable
from siamese.errors import ConfigError, RunError, nearest
from siamese.evaluation.names import FAR
from siamese.paths import near, shown


@dataclass(frozen=True)
class Threshold:
    """A Euclidean distance of unit vectors; pairs up to it count as the same.

    Attributes:
        name: the error rate that it was chosen for on validation images: eer, far_1e-1, far_1e-2 or far_1e-3.
        far, tar: the shares of pairs of different classes and of pairs of one class that it accepts of test images;
            None where that is not known.
    """

    name: str
    distance: float
    far: float | None
    tar: float | None


def threshold_of(run: Path, summary: Mapping[str, Mapping[str, Any]], epoch: int, far: str | float | None) -> Threshold:
    """The threshold of ``run``, whose weights are of ``epoch``, at the equal error rate, or at a rate of false accepts
    ``far``: 1e-1, 1e-2 or 1e-3.

    Raises:
        ConfigError: for another rate.
        RunError: for a run that has no such threshold, with the reason.
    """
    name = "eer" if far is None else f"far_{_rate(far)}"
    found = summary.get(f"val/threshold_at_{name}")
    again = f"{shown('evaluate')} {pasteable(near(run))}"
    if found is None:
        raise RunError(f"{run / 'summary.json'}: has no val/threshold_at_{name}; to measure it: {again}")
    if found["value"] is None:
        raise RunError(f"{run / 'summary.json'}: val/threshold_at_{name} is undefined: {found.get('reason')}")
    if found["epoch"] != epoch:
        raise RunError(
            f"{run / 'summary.json'}: its thresholds are of epoch {found['epoch']}, and the checkpoint is of epoch "
            f"{epoch}; to measure it again: {again}"
        )
    rates = [summary.get(f"test/{rate}_at_threshold_{name}", {}).get("value") for rate in ("far", "tar")]
    return Threshold(name, float(found["value"]), *rates)


def _rate(far: str | float) -> str:
    for known in FAR:
        if far == known or (not isinstance(far, str) and float(far) == float(known)):
            return known
    raise ConfigError(f"far={far}: expected one of {', '.join(FAR)}{nearest(str(far), FAR)}")
