"""Images with the same pixels, against a comparison of every two."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import write_folder
from support.processes import Cli

from siamese.data import LabelledImages
from siamese.data import duplicates as module
from siamese.data.duplicates import across, same_pixels, settle
from siamese.data.splits import Split
from siamese.errors import ConfigError


def images(pixels: list[int], labels: list[int]) -> LabelledImages:
    values = torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()
    names = np.array([f"i{k}" for k in range(len(pixels))])
    return LabelledImages(values, torch.tensor(labels), ("a", "b", "c"), names, np.zeros(len(pixels), dtype=bool))


EVERY = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.sampled_from("tvx-")), min_size=1, max_size=25)


def parts_of(letters: list[str]) -> dict[str, np.ndarray]:
    array = np.array(letters)
    return {
        name: np.flatnonzero(array == letter) for name, letter in (("train", "t"), ("validation", "v"), ("test", "x"))
    }


@settings(deadline=None)
@given(EVERY)
def test_every_image_that_should_be_apart_from_its_copy_is_in_a_pair(drawn: list[tuple[int, int, str]]) -> None:
    pixels, labels, letters = (list(column) for column in zip(*drawn, strict=True))
    pairs = across(images(pixels, labels), parts_of(letters))

    def apart(i: int, j: int) -> bool:
        used = letters[i] != "-" != letters[j]
        return (
            used and pixels[i] == pixels[j] and ((letters[i] == "t") != (letters[j] == "t") or labels[i] != labels[j])
        )

    assert all(apart(i, j) for i, j in pairs)
    concerned = {i for i in range(len(drawn)) for j in range(len(drawn)) if apart(i, j)}
    assert {*pairs.ravel().tolist()} == concerned
    assert all(letters[i] == "t" or letters[j] != "t" for i, j in pairs)
    assert len(pairs) <= len(concerned)


def test_a_checksum_that_two_images_share_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "checksums", lambda images: np.zeros(len(images), dtype=np.uint32))
    groups = [group.tolist() for group in same_pixels(images([1, 2, 1, 3, 2, 2], [0] * 6).images)]
    assert groups == [[0, 2], [1, 4, 5]]


def test_what_is_asked_for_is_done() -> None:
    source = images([1, 1, 2, 2, 3, 4], [0, 0, 0, 1, 1, 1])
    split = Split(np.array([0, 2, 3, 5]), np.array([4]), np.array([1]))
    warned, pairs = settle(source, split, "warn")
    assert pairs.tolist() == [[0, 1], [2, 3]]
    assert np.array_equal(warned.train, split.train)
    assert "1 in training and in another part, 1 in two classes, such as i0 and i1" in warned.remarks[0]
    dropped, _ = settle(source, split, "drop_from_train")
    assert dropped.train.tolist() == [5]
    assert (dropped.validation.tolist(), dropped.test.tolist()) == ([4], [1])
    assert "3 left out of training" in dropped.remarks[0]
    with pytest.raises(ConfigError, match=r"data\.duplicates=refuse: pairs of images with the same pixels: 1 in"):
        settle(source, split, "refuse")
    untouched, pairs = settle(images([1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2]), split, "refuse")
    assert untouched is split
    assert len(pairs) == 0


@pytest.mark.slow
def test_a_run_names_them(train_cli: Cli, tmp_path: Path) -> None:
    for part, seed in (("train", 0), ("test", 1)):
        write_folder(tmp_path / "photos" / part, {"a": 8, "b": 8}, size=(16, 16), seed=seed)
    for i in range(8):
        shutil.copy(tmp_path / f"photos/train/a/00{i}.png", tmp_path / f"photos/test/a/copy of 00{i}.png")
    words = f"data=image_folder data.root={tmp_path}/photos data.image_size=16 data.cache_dir={tmp_path}/cache"
    words += (
        " model=conv_small device=cpu trainer.max_epochs=1 figures.draw=false data.val_fraction=0.3 data.batch_size=4"
    )
    done = train_cli(*words.split(), f"hydra.run.dir={tmp_path}/run")
    assert "6 in training and in another part, such as train/a/00" in (tmp_path / "run/train.log").read_text()
    assert "duplicates.csv" in done.stdout
    with (tmp_path / "run/duplicates.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 6  # the other two of them validate
    for row in rows:
        assert row["other"] == row["image"].replace("train/a/", "test/a/copy of ")
        assert [row[key] for key in ("part", "class", "other_part", "other_class")] == ["train", "a", "test", "a"]
    refused = train_cli(*words.split(), "data.duplicates=refuse", f"hydra.run.dir={tmp_path}/no", check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "data.duplicates=refuse" in refused.stderr
