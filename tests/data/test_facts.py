"""What a manifest counts of the images and tuples of each class."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import toy_images
from support.processes import Cli

from siamese.config.schema import Data
from siamese.data import LabelledImages, SiameseData
from siamese.data.batches import Balanced, Kind, Magnet, Pairs, Triplets, Views
from siamese.data.facts import by_class

SOURCE = toy_images([20, 23, 30, 21], size=4, test=24)
KINDS = [Triplets(), Pairs(), Balanced(3), Views()]


def split_of(source: LabelledImages, kind: Kind, **keys: Any) -> dict[str, Any]:
    data = SiameseData(
        source, Data(source={"_target_": "toy"}, **{"batch_size": 6, "val_fraction": 0.2, **keys}), 0, kind
    )
    split = data.facts()["split"]
    assert isinstance(split, dict)
    return {**split, "parts": data.parts, "items": data.loader}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.form)
@pytest.mark.parametrize("triplets", ["article", "resampled"])
def test_images_and_tuples_are_counted_by_class(kind: Kind, triplets: str) -> None:
    split = split_of(SOURCE, kind, triplets=triplets)
    names = np.array(SOURCE.class_names)[SOURCE.labels]
    for part, index in split["parts"].items():
        assert split["classes"][part] == Counter(names[index])
        assert sum(split["classes"][part].values()) == split[part]
    items = split["items"]
    drawn = items._segment_of(0, 0).items.numpy()
    assert split["tuples"]["train"] == Counter(names[drawn[:, 0]])
    assert sum(split["tuples"]["train"].values()) == split[f"train_{kind.item}"]
    for part in ("validation", "test"):
        assert sum(split["tuples"][part].values()) == split[f"{part}_triplets"] > 0


def test_tuples_that_the_network_decides_on_are_not_counted() -> None:
    split = split_of(SOURCE, Magnet(2, 3, 2))
    assert split["tuples"]["train"] is None
    assert split["tuples"]["validation"] == split_of(SOURCE, Triplets())["tuples"]["validation"]


def test_classes_that_a_part_has_not_and_images_of_none_are_not_counted() -> None:
    split = split_of(toy_images([6] * 10, size=4), Triplets(), split="by_class", test_fraction=0.3)
    names = [set(split["classes"][part]) for part in ("train", "validation", "test")]
    assert sum(map(len, names)) == len(set().union(*names)) == 10
    unlabelled = dataclasses.replace(SOURCE, labels=torch.full_like(SOURCE.labels, -1), class_names=())
    assert split_of(unlabelled, Views())["classes"] == {"train": {}, "validation": {}, "test": {}}


def test_many_classes_are_summed_up() -> None:
    names = tuple(f"class{c}" for c in range(201))
    labels = np.arange(201).repeat(np.arange(1, 202))
    assert by_class(labels, names) == {"classes": 201, "least": 1, "median": 101, "most": 201}
    assert by_class(labels[labels < 200], names) == {f"class{c}": c + 1 for c in range(200)}


def test_a_manifest_holds_the_counts(train_cli: Cli, tmp_path: Path) -> None:
    train_cli(
        *("data=digits", "data.images_per_class=20", "data.image_size=8", "model=conv_small", "model.width=4"),
        *("trainer.max_epochs=1", "figures.draw=false", "device=cpu", f"hydra.run.dir={tmp_path / 'run'}"),
    )
    split = json.loads((tmp_path / "run/manifest.json").read_text())["split"]
    assert list(split["classes"]["train"]) == [str(digit) for digit in range(10)]
    assert sum(split["classes"]["train"].values()) == split["train"]
    assert sum(split["tuples"]["train"].values()) == split["train_triplets"]
