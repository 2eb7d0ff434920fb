"""What a run's manifest says of its data and of the split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from siamese.data.images import LabelledImages
from siamese.runs.provenance import fingerprint

LISTED = 200  # classes that a part is counted by, one by one; of more, a manifest holds a summary


def data_facts(source: LabelledImages, name: str, mean: list[float], std: list[float]) -> dict[str, object]:
    """What identifies the images of ``source``, which is called ``name``, and how they are normalised."""
    return {
        "source": name,
        "images": len(source.ids),
        "classes": list(source.class_names),
        "fingerprint": source.fingerprint,
        "mean": mean,
        "std": std,
    }


def split_facts(
    source: LabelledImages,
    parts: Mapping[str, np.ndarray],
    triplets: Mapping[str, np.ndarray],
    items: Mapping[str, int],
    first: np.ndarray | None,
) -> dict[str, object]:
    """What identifies a split, and how many images and tuples each class has in it.

    Args:
        parts: int64 [n], the images of each part.
        triplets: int64 [T, 3], the fixed ones of validation and test, indices into the images.
        items: what an epoch trains on, by what they are called.
        first: int64 [T, K], those of epoch 0, indices into the images; None where the network decides on them.
    """
    ids, labels, names = source.ids, source.labels.numpy(), source.class_names
    tuples = {"train": first, **triplets}
    return {
        **{part: len(index) for part, index in parts.items()},
        **{f"train_{item}": count for item, count in items.items()},
        **{f"{part}_triplets": len(t) for part, t in triplets.items()},
        "classes": {part: by_class(labels[index], names) for part, index in parts.items()},
        "tuples": {part: None if t is None else by_class(labels[t[:, 0]], names) for part, t in tuples.items()},
        "fingerprint": fingerprint(*(ids[i] for i in parts.values()), *(ids[t] for t in triplets.values())),
    }


def by_class(labels: np.ndarray, names: tuple[str, ...]) -> dict[str, int] | dict[str, int | float]:
    """How many of ``labels`` [n] each class has that is among them, by its name; of more than ``LISTED`` classes, how
    many ``classes`` there are, and the ``least``, the ``median`` and the ``most`` of one. Labels of no class are not
    counted."""
    found, counts = np.unique(labels[labels >= 0], return_counts=True)
    if len(found) > LISTED:
        return {
            "classes": len(found),
            "least": int(counts.min()),
            "median": float(np.median(counts)),
            "most": int(counts.max()),
        }
    return {names[label]: int(count) for label, count in zip(found, counts, strict=True)}
