"""per_class.csv and evaluation.json: what is written is read again, and what is damaged is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siamese.errors import RunError
from siamese.evaluator.tables import write_table
from siamese.runs.bounds import parse_csv
from siamese.runs.directory import RunDirectory, _as_csv
from siamese.runs.locks import release
from siamese.runs.tables import read_evaluation, read_per_class

ABOUT = {
    "data": "digits",
    "root": None,
    "checkpoint": "best",
    "epoch": 3,
    "fingerprint": "0123456789abcdef",
    "split": {"test": 7},
    "images": 7,
    "classes": 2,
    "run_id": "r",
    "time": "2026-01-01T00:00:00+0000",
}


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True))
def test_classes_of_any_name_are_read_as_they_were_written(names: list[str]) -> None:
    rows = [{"part": "test", "class": name, "images": "3"} for name in names]
    assert parse_csv(_as_csv(rows), "a table") == rows


def test_parts_of_other_columns_are_one_table_validation_first(tmp_path: Path) -> None:
    test = {"part": "test", "class": "two\nlines", "images": "1", "area": "0.5"}
    validation = {"part": "validation", "class": "$50%", "images": "0", "recall": "1.0"}
    assert read_per_class(tmp_path) == []
    run = RunDirectory(tmp_path)
    write_table(run, "per_class", [])
    assert not (tmp_path / "per_class.csv").exists()
    write_table(run, "per_class", [test, validation])
    release(tmp_path)
    assert read_per_class(tmp_path) == [validation | {"area": ""}, test | {"recall": ""}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("part,images,area\ntest,3,1\n", "has no column class; expected part, class, images"),
        ("part,class,images,area\ntest,a,3,1\ntest,b,3,nan?\n", "row 3: area: expected a number, found 'nan?'"),
        ("part,class,images\ntest,a\n", "line 2 has 2 fields; expected 3"),
        ("", "could not be read as CSV"),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "per_class.csv").write_text(text)
    with pytest.raises(RunError) as error:
        read_per_class(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'per_class.csv'}: ")
    assert said in str(error.value)


def test_what_was_measured_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_evaluation(tmp_path) is None
    RunDirectory(tmp_path).evaluation(ABOUT)
    release(tmp_path)
    assert read_evaluation(tmp_path) == ABOUT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epoch": "3"}, "epoch: expected a whole number, found text"),
        ({"fingerprint": None}, "fingerprint: expected text, found null"),
        ({"split": [7]}, "split: expected an object, found a list"),
    ],
)
def test_an_odd_evaluation_is_one_line(tmp_path: Path, change: dict, said: str) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(ABOUT | change))
    with pytest.raises(RunError, match=said):
        read_evaluation(tmp_path)


def test_a_table_without_rows_takes_away_the_one_from_before(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    write_table(run, "failures", [{"part": "test", "id": "a"}])
    write_table(run, "failures", [])
    release(tmp_path)
    assert not (tmp_path / "failures.csv").exists()
