"""Which classes and queries the runs of a group fail on, over its seeds."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.processes import Cli
from support.synthetic_runs import write_run

from siamese.compare import page
from siamese.compare.comparison import Options, compare
from siamese.compare.failures import MOST_CLASSES, MOST_QUERIES, Failures, WorstQuery, group_failures

KOLEO = "loss.koleo_weight"
NAMES = [f"class{i:02d}" for i in range(15)]
IDS = [f"{i:02d}.png" for i in range(30)]

Failed = Mapping[str, tuple[str, int]]  # by id: the class it is taken for, and the rank of its own


def images_of(name: str) -> int:
    return 3 + sum(map(ord, name)) % 4


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def run(
    path: Path, seed: int, classes: Mapping[str, object], failed: Failed, ids: list[str] | None, weight: float = 0.0
) -> Path:
    """A run that measured ``classes`` and has the queries ``failed`` of the images ``ids``."""
    arrays = None if ids is None else {"test": {"ids": np.array(ids, dtype=str)}}
    write_run(path, {"seed": seed, KOLEO: weight}, arrays=arrays)
    of_validation = {"part": "validation", "class": "elsewhere", "images": 9, "recall_at_1": 0.0}
    own = [
        {"part": "test", "class": name, "images": images_of(name), "recall_at_1": value}
        for name, value in classes.items()
    ]
    write(path / "per_class.csv", [of_validation, *own])
    write_failures(path, failed)
    return path


def write_failures(path: Path, failed: Failed) -> None:
    rows: list[dict[str, object]] = []
    for image, (taken_for, rank) in {"elsewhere.png": ("dog", 99), **failed}.items():
        part = "validation" if image == "elsewhere.png" else "test"
        row = {"part": part, "id": image, "class": f"class of {image}", "nearest": "n", "nearest_class": taken_for}
        rows.append(row | {"cosine_nearest": 0.9, "right": "r", "cosine_right": 0.8, "rank": rank})
    write(path / "failures.csv", rows)


def of_runs(root: Path) -> tuple[list[Failures], list[str]]:
    return group_failures(compare([root], Options()))


some_failed = st.dictionaries(
    st.sampled_from(IDS), st.tuples(st.sampled_from(NAMES[:3]), st.integers(2, 4)), min_size=1, max_size=30
)
some_classes = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["", 0.0, 0.25, 0.5, 1.0]), min_size=1)
one_seed = st.tuples(some_classes, some_failed, st.sets(st.sampled_from(IDS)))


@settings(max_examples=40, deadline=None)
@given(st.lists(one_seed, min_size=1, max_size=4))
def test_the_worst_classes_and_queries_by_brute_force(tmp_path_factory: pytest.TempPathFactory, seeds: Any) -> None:
    root = tmp_path_factory.mktemp("failures")
    for seed, (classes, failed, others) in enumerate(seeds):
        run(root / str(seed), seed, classes, failed, sorted(others))
    ((one,), missing) = of_runs(root)
    assert missing == []

    means = {}
    for name in NAMES:
        values = [float(classes[name]) for classes, _, _ in seeds if classes.get(name, "") != ""]
        if values and sum(values) < len(values):
            means[name] = (sum(values) / len(values), len(values))
    assert one.all_classes == len(means)
    lowest = sorted(means, key=lambda name: (means[name][0], -images_of(name), name))[:MOST_CLASSES]
    assert [k.name for k in one.classes] == lowest
    assert [(k.value, k.seeds, k.images) for k in one.classes] == [
        (pytest.approx(means[k][0]), means[k][1], str(images_of(k))) for k in lowest
    ]

    told = {}
    for image in {image for _, failed, _ in seeds for image in failed}:
        own = [failed[image] for _, failed, _ in seeds if image in failed]
        tested = sum(image in failed or image in others for _, failed, others in seeds)
        names = [taken_for for taken_for, _ in own]
        most = min(names, key=lambda name: (-names.count(name), name))
        worst = (-len(own), tested, -sum(rank for _, rank in own) / len(own), image)
        told[image] = worst, WorstQuery(image, f"class of {image}", len(own), tested, most)
    assert one.all_queries == len(told)
    assert one.queries == [query for _, query in sorted(told.values(), key=lambda pair: pair[0])][:MOST_QUERIES]


def test_runs_of_one_seed_count_once_for_a_class_and_each_for_a_query(tmp_path: Path) -> None:
    for i, (seed, recall) in enumerate([(0, 0.0), (0, 0.5), (1, 0.75)]):
        path = run(tmp_path / str(i), seed, {"cat": recall}, {"a.png": ("dog", 2)}, ["a.png"])
        text = (path / "manifest.json").read_text().replace("0123456789abcdef", f"{i}" * 16, 1)
        (path / "manifest.json").write_text(text)  # the same configuration and seed, from other code
    ((one,), _) = of_runs(tmp_path)
    assert [(k.value, k.seeds) for k in one.classes] == [(0.5, 2)]
    assert [(q.failed, q.tested) for q in one.queries] == [(3, 3)]


def test_classes_without_recall_go_by_map_at_r(tmp_path: Path) -> None:
    path = run(tmp_path / "a", 0, {"cat": 0.5}, {"a.png": ("", 2)}, ["a.png"])
    text = (path / "per_class.csv").read_text()
    (path / "per_class.csv").write_text(text.replace("recall_at_1", "map_at_r"))
    c = compare([tmp_path], Options())
    ((one,), missing) = group_failures(c)
    assert (one.measure, [k.value for k in one.classes], missing) == ("map_at_r", [0.5], [])
    assert "no class</td>" in page.render(c, page.draw(c, ()), [], "")  # what it is taken for has none


def test_a_run_without_failures_tested_its_queries_and_one_without_its_table_did_not(tmp_path: Path) -> None:
    good, bad = {"cat": 1.0}, {"cat": 0.5}
    run(tmp_path / "fails", 0, bad, {"a.png": ("dog", 2)}, ["a.png"])
    (run(tmp_path / "perfect", 1, good, {}, ["a.png"]) / "failures.csv").unlink()
    (run(tmp_path / "lacks", 2, bad, {}, ["a.png"]) / "failures.csv").unlink()
    run(tmp_path / "unknown", 3, bad, {"a.png": ("dog", 2)}, None)
    run(tmp_path / "no_number", 4, bad, {"a.png": ("dog", 2)}, ["a.png"])
    table = tmp_path / "no_number" / "failures.csv"
    table.write_text(table.read_text().replace(",2", ",second"))
    (run(tmp_path / "torn", 5, bad, {}, ["a.png"]) / "per_class.csv").write_text("part,class\ntest,cat\n")
    text = (run(tmp_path / "above", 6, bad, {"a.png": ("dog", 2)}, ["a.png"]) / "per_class.csv").read_text()
    (tmp_path / "above" / "per_class.csv").write_text(text.replace("0.5", "7"))
    (run(tmp_path / "older", 7, bad, {}, ["a.png"]) / "per_class.csv").unlink()
    ((one,), missing) = of_runs(tmp_path)
    assert [(k.name, k.value, k.seeds) for k in one.classes] == [("cat", pytest.approx(0.6), 5)]
    assert [(q.failed, q.tested) for q in one.queries] == [(2, 3)]  # of fails, perfect and above
    said = {line.partition(" (")[0]: line for line in missing}
    assert said.keys() == {"lacks", "unknown", "no_number", "torn", "above", "older"}
    assert said["lacks"] == "lacks (failures.csv: holds none of the failed queries of test)"
    assert "arrays/test.npz: holds no ids" in said["unknown"]
    assert "failures.csv: row 3: rank: expected a number, found 'second'" in said["no_number"]
    assert "per_class.csv: " in said["torn"]
    assert "per_class.csv: row 3: recall_at_1: expected a share, found 7" in said["above"]


def test_the_page_names_them_as_text_and_says_nothing_where_no_run_has_any(tmp_path: Path) -> None:
    write_run(tmp_path / "none" / "a")
    c = compare([tmp_path / "none"], Options())
    assert group_failures(c) == ([], [])
    assert 'id="failures"' not in page.render(c, page.draw(c, ()), [], "")
    for weight in (0.0, 0.1):
        for seed in range(2):
            many = {f"<b>{'long' * 40}{i}</b>": ("{{ 7 * 7 }}<img src=x>", 2) for i in range(300)}
            classes = dict.fromkeys([f"<i>{i}" for i in range(300)], 0.25)
            run(tmp_path / "s" / f"{weight}{seed}", seed, classes, many, list(many), weight)
    c = compare([tmp_path / "s"], Options())
    text = page.render(c, page.draw(c, ()), [], "")
    (section,) = re.findall(r'<section id="failures">.*?</section>', text, re.S)
    assert section.count("&lt;i&gt;") == 2 * MOST_CLASSES
    assert section.count("2 of 2") == section.count("{{ 7 * 7 }}&lt;img src=x&gt;") == 2 * MOST_QUERIES
    assert section.count("300 classes with failures, 300 failed queries") == 2
    assert not re.search("<(b|i|img)>", section)
    assert "299&lt;/b&gt;" not in section
    names = re.findall(r"&lt;b&gt;long.*?…(.*?)&lt;/b&gt;", section)
    assert len(set(names)) == MOST_QUERIES  # long names are cut where they are alike


@pytest.mark.slow
def test_the_page_of_trained_runs_counts_their_failures(train_cli: Cli, cli: Cli, tmp_path: Path) -> None:
    words = ("data=digits", "data.images_per_class=12", "model=conv_small", "model.width=2", "device=cpu")
    for seed in (0, 1):
        to = f"hydra.run.dir={tmp_path / 'runs' / str(seed)}"
        train_cli(*words, "trainer.max_epochs=1", "figures.draw=false", f"seed={seed}", to)
    failed = []
    for seed in (0, 1):
        with (tmp_path / "runs" / str(seed) / "failures.csv").open(newline="") as file:
            failed.append({row["id"] for row in csv.DictReader(file) if row["part"] == "test"})
    cli("scripts/compare.py", tmp_path / "runs", "--out", tmp_path / "out")
    (section,) = re.findall(
        r'<section id="failures">.*?</section>', (tmp_path / "out" / "report.html").read_text(), re.S
    )
    assert f"{len(failed[0] | failed[1]):,} failed quer" in section
    shown = dict(re.findall(r'class="text">([^<]*)</th><td class="text">[^<]*</td>[^>]*>(\d) of', section))
    assert len(shown) == min(MOST_QUERIES, len(failed[0] | failed[1]))
    assert shown == {name: str(sum(name in own for own in failed)) for name in shown}
