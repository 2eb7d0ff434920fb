"""What a run began with, and has to be the same where it goes on."""

from __future__ import annotations

from typing import Any

from siamese.data import SiameseData
from siamese.errors import ConfigError
from siamese.runs.directory import RunDirectory
from siamese.runs.read import read_manifest


def check_same_data(run: RunDirectory, data: SiameseData) -> None:
    """Refuse to go on with a run on other images, or another split of them, than it began with.

    Raises:
        ConfigError: naming both fingerprints.
    """
    before: dict[str, Any] = read_manifest(run.path)
    now: dict[str, Any] = data.facts()
    for what in ("data", "split"):
        found, expected = now[what]["fingerprint"], before.get(what, {}).get("fingerprint")
        if found != expected:
            counts = [facts.get("data", {}).get("images") for facts in (now, before)]
            images = "" if counts[0] == counts[1] else f": {counts[0]:,} images, {counts[1]:,} when it began"
            raise ConfigError(
                f"resume={run.path}: the {what} of the run has changed{images} "
                f"(fingerprint {found}, expected {expected})"
            )


def check_same_weights(run: RunDirectory, weights: dict[str, str] | None) -> None:
    """Refuse to begin a run again with other weights than it began with.

    Args:
        weights: where they are from and their fingerprint, or None for none out of a file.

    Raises:
        ConfigError: naming the file and both fingerprints.
    """
    expected: Any = read_manifest(run.path).get("weights")
    if weights is not None and expected is not None and weights["fingerprint"] != expected["fingerprint"]:
        raise ConfigError(
            f"resume={run.path}: the weights that it started from have changed: {weights['file']} "
            f"(fingerprint {weights['fingerprint']}, expected {expected['fingerprint']})"
        )
