"""scripts/evaluate.py RUN --failures: where an embedding fails, from the tables of a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from support.processes import Cli

from siamese.errors import RunError
from siamese.evaluator.failures import cut, failures_text
from siamese.evaluator.report import results_table

AGAIN = "the command"
SCRIPT = "scripts/evaluate.py"


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def of_class(name: str, recall: object, part: str = "test") -> dict[str, object]:
    row = {"part": part, "class": name, "images": 3, "recall_at_1": recall, "map_at_r": recall}
    return row | {"intra_distance": 0.25, "taken_for": "dog", "taken_for_share": 0.5}


def failed(image: str, rank: int, part: str = "test") -> dict[str, object]:
    row = {"part": part, "id": image, "class": "cat", "nearest": "n.png", "nearest_class": "dog"}
    return row | {"cosine_nearest": 0.9, "right": "r.png", "cosine_right": 0.8, "rank": rank}


@given(st.text(max_size=60), st.integers(5, 30))
def test_a_name_is_cut_in_the_middle_to_the_width_it_has(name: str, width: int) -> None:
    shown = cut(name, width)
    assert cell_len(shown) <= width
    if cell_len(name) <= width:
        assert shown == name
    else:
        head, _, tail = shown.partition("…")
        assert name.startswith(head.rstrip()) or "…" in name
        assert name.rstrip().endswith(tail.strip()) or "…" in name


def test_the_worst_come_first_and_the_figure_is_named(tmp_path: Path) -> None:
    names = {"a/very/long/folder/of/a/class/indeed": 0.5, "good": 1.0, "worst": 0.0, "alone": ""}
    write(tmp_path / "per_class.csv", [of_class(name, recall) for name, recall in names.items()])
    write(tmp_path / "failures.csv", [failed(f"{i}.png", 30 - i) for i in range(12)])
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "failures_test.svg").touch()
    text = failures_text(tmp_path, None, AGAIN)
    lines = text.splitlines()
    assert max(len(line) for line in lines if not line.startswith("drawn")) <= 80
    assert lines[2].split()[:3] == ["worst", "3", "0.000"]
    assert lines[3].startswith("a/very/lon…lass/indeed ")
    assert not {"good", "alone", "10.png"} & set(text.split())
    assert {"9.png", "2"} <= set(text.split())
    assert "the worst 10 of 12 failed queries" in text
    assert f"drawn in {tmp_path / 'figures' / 'failures_test.svg'}" in text


def test_no_failures_are_said_in_one_line(tmp_path: Path) -> None:
    rows = [of_class("cat", 1.0, "validation"), of_class("lone", "", "test")]
    write(tmp_path / "per_class.csv", rows)
    said = failures_text(tmp_path, None, AGAIN).splitlines()
    assert said[0] == "validation: no failures: the nearest image of every query is of its class"
    assert said[1] == "test: no image has another one of its class to find"


def test_tables_that_are_not_there_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"per_class\.csv: not there, .*the command"):
        failures_text(tmp_path, None, AGAIN)
    write(tmp_path / "per_class.csv", [{"part": "test", "class": "cat", "images": 3}])
    with pytest.raises(RunError, match=r"has no column recall_at_1, .*the command"):
        failures_text(tmp_path, None, AGAIN)
    write(tmp_path / "per_class.csv", [of_class("cat", 0.5)])
    with pytest.raises(RunError, match=r"failures\.csv: holds none of the failed queries of test; the command"):
        failures_text(tmp_path, "test", AGAIN)
    with pytest.raises(RunError, match=r"holds no classes of validation, only of test"):
        failures_text(tmp_path, "validation", AGAIN)


def test_the_table_has_the_interval_beside_the_value_of_the_last_part() -> None:
    about = {"epoch": 1, "interval": [0.58, 0.64], "interval_over": "classes"}
    summary = {f"{part}/recall_at_1": {"value": 0.6123, **about} for part in ("val", "test")}
    summary["test/tar_at_threshold_far_1e-3"] = {"value": 0.5, "epoch": 1}
    text = results_table(summary, "best")
    assert text.count("[0.580, 0.640]") == 1
    assert "test, by the bootstrap over classes" in text
    assert max(map(len, text.splitlines())) <= 80
    (line,) = (line for line in text.splitlines() if "recall_at_1" in line)
    assert line.split() == ["│", "recall_at_1", "│", "0.6123", "│", "0.6123", "│", "[0.580,", "0.640]", "│"]


@pytest.mark.slow
def test_the_command_reads_the_tables_of_a_run(train_cli: Cli, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("data=digits", "data.images_per_class=20", "model=conv_small", "model.width=2", "device=cpu")
    train_cli(*words, "trainer.max_epochs=1", "figures.draw=false", f"hydra.run.dir={run}")
    with (run / "failures.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    (run / "checkpoints" / "best.ckpt").unlink()  # no model is needed
    said = cli(SCRIPT, run, "--failures", "--split", "test").stdout
    assert f"{rows[0]['rank']}\n" in said
    assert f"of {len(rows):,} failed queries" in said
    assert "validation" not in said
    assert json.loads((run / "summary.json").read_text())["test/recall_at_1"]["value"] < 1
    for given_, complaint in (
        (("--failures", "--figures-only", "--data", "digits"), "takes no --data, --figures-only"),
        (("--evaluation", "x"), "expected beside --failures or --figures-only"),
        (("--failures", "--evaluation", "x"), "holds no evaluation 'x'; found none"),
    ):
        done = cli(SCRIPT, run, *given_, check=False)
        assert done.returncode != 0
        assert complaint in done.stderr
        assert len(done.stderr.splitlines()) == 1
