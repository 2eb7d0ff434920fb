"""Whether runs were measured on the same images: where they were not, a difference says nothing of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from siamese.compare.evaluations import about
from siamese.compare.grouping import Group
from siamese.compare.metrics import Metric
from siamese.compare.settings import settings_of
from siamese.errors import ConfigError
from siamese.runs.run import Run

IDENTITY = ("ids", "labels", "class_names")


def require_same_images(groups: Sequence[Group], pairs: Mapping[int, Group], metrics: Sequence[Metric]) -> None:
    """Refuse to compare measures of test images where paired runs were tested on other images, other classes, or
    another split. What says nothing of its images, as runs of earlier versions may, is let through.

    Raises:
        ConfigError: saying how the images of the first such pair differ, and how many there are.
    """
    if not any(metric.name.startswith("test/") for metric in metrics):
        return
    found = []
    for group in groups:
        baseline = pairs.get(group.number)
        for unit in group.runs.keys() & baseline.runs.keys() if baseline else ():
            assert baseline is not None
            one, other = group.runs[unit][-1], baseline.runs[unit][-1]
            if (how := difference(one, other)) is not None:
                found.append((unit, f"({group.label}) {described(one)} and ({baseline.label}) {described(other)}{how}"))
    if found:
        more = f" (and {len(found) - 1:,} more pairs)" * (len(found) > 1)
        raise ConfigError(
            f"tested on different images: {min(found)[1]}{more}; choose runs with --where, or a --baseline that was "
            "tested on the same"
        )


def difference(one: Run, other: Run) -> str | None:
    """How the test images of two runs differ, in words that may be empty where their counts say it; None where they do
    not, or nobody can tell."""
    a, b = (_facts(run) for run in (one, other))
    if None not in (a["fingerprint"], b["fingerprint"]) and a["fingerprint"] == b["fingerprint"]:
        return None
    for key in ("images", "classes"):
        if None not in (a[key], b[key]) and a[key] != b[key]:
            return ""
    if one.evaluation is not None and None not in (a["fingerprint"], b["fingerprint"]):
        return f": fingerprints {a['fingerprint']} and {b['fingerprint']}"
    known = [run.arrays("test", *IDENTITY) for run in (one, other)]
    if known[0] is None or known[1] is None:
        return None
    images = [_identity(arrays) for arrays in known if arrays is not None]
    apart = len(images[0] - images[1])
    return f": {apart:,} of the {len(images[0]):,} are others" if apart or len(images[1]) != len(images[0]) else None


def described(run: Run) -> str:
    """The test images of ``run`` in words: how many, of how many classes, and what made them so."""
    facts, settings = _facts(run), settings_of(run)
    images, classes = (facts[key] for key in ("images", "number"))
    counted = f"{images:,} images" if images is not None else "images"
    counted += f" of {classes:,} classes" if classes is not None else ""
    if run.evaluation is not None:
        return f"{counted} of {facts['source'] or run.evaluation}"
    split = [f"data.split={settings.get('data.split')}", f"seed {settings.get('seed')}"]
    split += [f"fold {settings.get('data.fold')}"] * (settings.get("data.split") == "kfold")
    return f"{counted} of {', '.join([str(facts['source']), *split])}"


def _facts(run: Run) -> dict[str, Any]:
    """What is known of the test images: their ``source``, number and ``fingerprint``; their ``classes``, comparable,
    and the ``number`` of these. None for what is not known."""
    if run.evaluation is not None:
        said = about(run)
        source = " ".join(str(said[key]) for key in ("data", "root") if said.get(key))
        number = said.get("classes")
        found = {key: said.get(key) for key in ("images", "fingerprint")}
        return {"source": source, "classes": number, "number": number, **found}
    data, split = (node if isinstance(node := run.manifest.get(name), dict) else {} for name in ("data", "split"))
    counts = split["classes"].get("test") if isinstance(split.get("classes"), dict) else None
    number = len(counts) if isinstance(counts, dict) else None
    if isinstance(counts, dict) and "least" in counts and isinstance(counts.get("classes"), int):
        number = counts["classes"]  # of very many classes, a manifest holds a summary
    marks = data.get("fingerprint"), split.get("fingerprint")
    return {
        "source": data.get("source"),
        "images": split["test"] if isinstance(split.get("test"), int) else None,
        "classes": counts if number is not None else None,
        "number": number,
        "fingerprint": None if None in marks else marks,
    }


def _identity(arrays: Mapping[str, np.ndarray]) -> set[tuple[str, str]]:
    """Each image by its id and the name of its class."""
    names = arrays["class_names"]
    classes = [str(names[label]) if label >= 0 else "" for label in arrays["labels"].tolist()]
    return set(zip(map(str, arrays["ids"].tolist()), classes, strict=True))
