"""Comparisons of what was measured elsewhere, of single classes, and of runs that were tested on different images."""

from __future__ import annotations

import csv
import io
import json
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.synthetic_runs import entry, write_run

from siamese.commands import compare as command
from siamese.compare import page
from siamese.compare.classes import MOST_CLASSES, Changes, class_changes
from siamese.compare.comparison import Options, compare
from siamese.errors import ConfigError
from siamese.runs.arrays import array_shape
from siamese.runs.tables import FAILURES

KOLEO = "loss.koleo_weight"
NAME = "best_image_folder_photos"
WHOLE = {"source": "digits", "fingerprint": "d1"}


def run(*words: object) -> tuple[int, str]:
    """The command in this process: its exit status and what it printed on stdout."""
    text = io.StringIO()
    return command.main([*map(str, words)], Console(file=text, width=160)), text.getvalue()


def evaluation(path: Path, auc: float, about: Mapping[str, Any] | None = None, name: str = NAME) -> Path:
    """Write what evaluate.py does of other images."""
    folder = path / "evaluations" / name
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"test/auc": entry("test/auc", auc)}))
    if about is not None:
        said = {"data": "image_folder", "root": "/photos", "checkpoint": "best", "epoch": 3, "images": 40, "classes": 4}
        (folder / "evaluation.json").write_text(json.dumps({**said, "fingerprint": "e1", **about}))
    return folder


def per_class(folder: Path, rows: Iterable[tuple[str, int, float | None]], part: str = "test") -> None:
    with open(folder / "per_class.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "class", "images", "recall_at_1", "map_at_r", "nearest_class"])
        for name, images, recall in rows:
            writer.writerow([part, name, images, "" if recall is None else recall, 0.5, "cat"])


def pair(root: Path, seeds: int = 2) -> list[Path]:
    """Runs of two groups and ``seeds`` seeds, the second 0.01 better; elsewhere it is 0.2 worse."""
    paths = []
    for weight in (0.0, 0.1):
        for seed in range(seeds):
            settings = {KOLEO: weight, "seed": seed}
            paths.append(write_run(root / f"{weight}_{seed}", settings, {"test/auc": 0.9 + weight / 10 + seed / 100}))
            evaluation(paths[-1], 0.7 - 2 * weight + seed / 100, {})
    return paths


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words)[0] == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


# -- what was measured elsewhere ---------------------------------------------------------------


def test_an_evaluation_takes_the_place_of_the_runs_own_measures(tmp_path: Path) -> None:
    folder, out = tmp_path / "runs", tmp_path / "out"
    pair(folder)
    found = compare([folder], Options(evaluation=NAME))
    assert [cell.mean for cell in found.cells.values()] == pytest.approx([0.705, 0.505])
    assert [d.mean for d in found.differences] == pytest.approx([-0.2])
    assert [d.mean for d in compare([folder], Options()).differences] == pytest.approx([0.01])
    status, said = run(folder, "--evaluation", NAME, "--out", out)
    assert status == 0
    assert f"4 runs in 2 groups, 2 seeds each, by their evaluation {NAME}" in said
    assert f"by their evaluation {NAME}" in (out / "report.html").read_text()
    assert "evaluation best\\_image\\_folder\\_photos of each run" in (out / "table.md").read_text()
    assert json.loads((out / "report.json").read_text())["evaluation"] == NAME
    with open(out / "runs.csv") as file:
        assert [float(row["test/auc"]) for row in csv.DictReader(file)] == pytest.approx([0.7, 0.71, 0.5, 0.51])


def test_arrays_and_classes_are_those_of_the_evaluation(tmp_path: Path) -> None:
    paths = pair(tmp_path, seeds=1)
    for path in paths:
        (path / "evaluations" / NAME / "arrays").mkdir()
        np.savez(path / "evaluations" / NAME / "arrays" / "roc_test.npz", fpr=np.arange(3.0), tpr=np.arange(3.0))
        per_class(path / "evaluations" / NAME, [("cat", 4, 0.5)])
    found = compare([tmp_path], Options(evaluation=NAME))
    assert all(run.arrays("roc_test", "fpr") is not None for run in found.runs)
    assert [one.classes for one in class_changes(found)[0]] == [1]
    assert class_changes(compare([tmp_path], Options())) == ([], ["0.0_0", "0.1_0"])


def test_runs_without_the_evaluation_are_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair(tmp_path)
    for seed in range(6):
        write_run(tmp_path / f"new_{seed}", {KOLEO: 0.5, "seed": seed})
    line = refused(capsys, tmp_path, "--evaluation", NAME)
    assert f"--evaluation {NAME}: 6 of 10 runs have none of this name (new_0, new_1, new_2, new_3, new_4 and 1" in line
    assert "; did you mean 'best_image_folder_photos'?" in refused(capsys, tmp_path, "--evaluation", NAME[:-1])
    assert f"; there is {NAME}" in refused(capsys, tmp_path, "--evaluation", "last")
    assert "no run has any" in refused(capsys, tmp_path / "new_0", "--evaluation", "last")
    assert "expected the name of a folder" in refused(capsys, tmp_path, "--evaluation", "../0.0_0")


def test_evaluations_of_different_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        evaluation(write_run(tmp_path / f"a{seed}", {KOLEO: 0.0, "seed": seed}), 0.5, {})
        more = {"images": 55, "fingerprint": "e2", "root": "/others"}
        evaluation(write_run(tmp_path / f"b{seed}", {KOLEO: 0.1, "seed": seed}), 0.5, more)
    line = refused(capsys, tmp_path, "--evaluation", NAME)
    assert "(koleo_weight=0.1) 55 images of 4 classes of image_folder /others" in line
    assert "(koleo_weight=0.0) 40 images of 4 classes of image_folder /photos (and 1 more pairs)" in line
    about = tmp_path / "b0" / "evaluations" / NAME / "evaluation.json"
    for seed in (0, 1):
        about = tmp_path / f"b{seed}" / "evaluations" / NAME / "evaluation.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"images": 40}))
    assert ": fingerprints e2 and e1" in refused(capsys, tmp_path, "--evaluation", NAME)
    about.unlink()  # as in an evaluation of an earlier version
    assert "more pairs" not in refused(capsys, tmp_path, "--evaluation", NAME)


def test_an_evaluation_that_is_damaged_leaves_its_run_out(tmp_path: Path) -> None:
    paths = pair(tmp_path)
    (paths[0] / "evaluations" / NAME / "evaluation.json").write_text('{"images": "many"}')
    (paths[3] / "evaluations" / NAME / "summary.json").write_text("{")
    found = compare([tmp_path], Options(evaluation=NAME))
    assert [run.path for run in found.runs] == paths[1:3]
    assert {run.path.name: run.reason.partition(":")[0] for run in found.left_out} == {
        "0.0_0": f"evaluations/{NAME}/evaluation.json",
        "0.1_1": f"evaluations/{NAME}/summary.json",
    }


# -- other test images -------------------------------------------------------------------------


def facts(test: int = 20, classes: Iterable[str] = "ab", mark: str = "s1", **data: str) -> dict[str, Any]:
    counts = dict.fromkeys(classes, test // 2)
    return {"data": WHOLE | data, "split": {"test": test, "classes": {"test": counts}, "fingerprint": mark}}


def stored(ids: Iterable[str], labels: Iterable[int], names: str = "ab") -> dict[str, Any]:
    return {"test": {"ids": np.array([*ids]), "labels": np.array([*labels]), "class_names": np.array([*names])}}


IDS = [f"image/{i}" for i in range(20)]
LABELS = [0, 1] * 10


@pytest.mark.parametrize(
    ("manifest", "arrays", "expected"),
    [
        (
            facts(30, mark="s2"),
            None,
            "30 images of 2 classes of digits, data.split=by_image, seed 0 and (koleo",
        ),
        (facts(20, "abc", mark="s2"), None, "20 images of 3 classes of digits"),
        (facts(20, "ac", mark="s2", source="mnist"), None, "20 images of 2 classes of mnist"),
        (facts(mark="s2"), stored([*IDS[:17], "x", "y", "z"], LABELS), ": 3 of the 20 are others"),
        (facts(mark="s2"), stored(IDS, LABELS[::-1]), ": 20 of the 20 are others"),  # of other classes
        (facts(mark="s2"), stored(IDS[::-1], LABELS[::-1], "ab"), None),  # training images or triplets differ alone
        (facts(mark="s2", fingerprint="d2"), stored(IDS, LABELS[::-1], "ba"), None),
        (facts(mark="s2"), None, None),  # nobody can tell
        ({"split": {"fingerprint": "other"}}, None, None),
        (facts(), stored(["another"], [0]), None),  # one fingerprint
    ],
)
def test_runs_tested_on_different_images_are_refused(
    manifest: dict[str, Any],
    arrays: dict[str, Any] | None,
    expected: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_run(tmp_path / "a", {KOLEO: 0.0}, manifest=facts(), arrays=stored(IDS, LABELS))
    write_run(tmp_path / "b", {KOLEO: 0.1}, manifest=manifest, arrays=arrays)
    if expected is None:
        assert run(tmp_path, "--out", tmp_path.parent / f"{tmp_path.name}_out")[0] == 0
    else:
        line = refused(capsys, tmp_path)
        assert line.startswith("error: tested on different images: (koleo_weight=0.1) ")
        assert expected in line


def test_seeds_have_splits_of_their_own_and_validation_is_compared_as_before(tmp_path: Path) -> None:
    for weight in (0.0, 0.1):
        for seed in range(3):
            settings = {KOLEO: weight, "seed": seed}
            metrics = {"test/auc": 0.5 + weight, "val/auc": 0.5}
            write_run(tmp_path / f"{weight}_{seed}", settings, metrics, manifest=facts(20 + seed, mark=f"s{seed}"))
    assert not any("split" in line for line in compare([tmp_path], Options()).warnings)
    write_run(tmp_path / "0.1_0", {KOLEO: 0.1, "seed": 0}, {"val/auc": 0.5}, manifest=facts(31, mark="s9"))
    with pytest.raises(ConfigError, match="31 images"):
        compare([tmp_path], Options())
    found = compare([tmp_path], Options(metrics=("val/auc",)))
    assert any(line.startswith("pairs on different splits") for line in found.warnings)


# -- classes -----------------------------------------------------------------------------------


Table = dict[str, tuple[int, float | None]]
tables = st.dictionaries(
    st.sampled_from([f"class{i}" for i in range(25)]),
    st.tuples(st.integers(1, 5), st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))),
    min_size=1,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(tables, tables), min_size=1, max_size=3))
def test_the_classes_won_and_lost_most_by_brute_force(tmp_path_factory: pytest.TempPathFactory, seeds: Any) -> None:
    root = tmp_path_factory.mktemp("classes")
    for seed, sides in enumerate(seeds):
        for weight, found in zip((0.0, 0.1), sides, strict=True):
            path = write_run(root / f"{weight}_{seed}", {KOLEO: weight, "seed": seed})
            per_class(path, [(name, *values) for name, values in found.items()])
    changes, missing = class_changes(compare([root], Options()))
    expected = {}
    for name in {name for sides in seeds for side in sides for name in side}:
        both = [(b[name], a[name]) for a, b in seeds if name in a and name in b]
        gains = [own[1] - other[1] for own, other in both if None not in (own[1], other[1])]
        if gains:
            expected[name] = float(np.mean(gains))
    assert missing == []
    if not expected:
        assert changes == []
        return
    (one,) = changes
    assert one.classes == len(expected)
    for shown, sign, counted in ((one.won, 1, one.better), (one.lost, -1, one.worse)):
        sizes = sorted((sign * gain for gain in expected.values() if sign * gain > 1e-12), reverse=True)
        assert [sign * change.change for change in shown] == pytest.approx(sizes[:MOST_CLASSES])
        assert [change.change for change in shown] == pytest.approx([expected[change.name] for change in shown])
        assert counted == len(sizes)


def test_equal_changes_go_by_images_and_the_page_names_them(tmp_path: Path) -> None:
    root, out = tmp_path / "runs", tmp_path / "out"
    for weight, shift in ((0.0, 0.0), (0.1, 0.25)):
        for seed in (0, 1):
            path = write_run(root / f"{weight}_{seed}", {KOLEO: weight, "seed": seed})
            rows = [("few", 2 + seed, 0.5 + shift), ("many <b>", 90, 0.5 + shift), ("lost", 7, 0.5 - shift)]
            per_class(path, [*rows, ("alone", 1, None)])
    (one,) = class_changes(compare([root], Options()))[0]
    assert isinstance(one, Changes)
    assert [(k.name, k.images, k.change, k.seeds) for k in one.won] == [
        ("many <b>", "90", 0.25, 2),
        ("few", "2 to 3", 0.25, 2),
    ]
    assert [(k.name, k.baseline, k.own) for k in one.lost] == [("lost", 0.5, 0.25)]
    assert run(root, "--out", out)[0] == 0
    page = (out / "report.html").read_text()
    assert "3 classes: 2 better, 1 worse" in page
    assert "many &lt;b&gt;" in page
    assert "−0.2500" in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("part,class\ntest,a\n", "per_class.csv: has no column images"),
        ("part,class,images,recall_at_1\ntest,a,1,much\n", "per_class.csv: row 2: recall_at_1: expected a number"),
        ("part,class,images,recall_at_1\ntest,a,1,7\n", "per_class.csv: row 2: recall_at_1: expected a share"),
    ],
)
def test_a_damaged_table_of_classes_is_named_and_the_rest_compared(text: str, expected: str, tmp_path: Path) -> None:
    paths = pair(tmp_path)
    for path in paths:
        per_class(path, [("cat", 3, 0.5)])
    (paths[0] / "per_class.csv").write_text(text)
    changes, missing = class_changes(compare([tmp_path], Options()))
    assert [(one.classes, one.won, one.lost) for one in changes] == [(1, [], [])]
    (line,) = missing
    assert line.startswith(f"0.0_0 ({expected}")


def test_the_page_says_where_only_the_first_groups_have_their_classes_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for weight in (0.0, 0.1, 0.2):
        for seed in range(2):
            path = write_run(tmp_path / f"{weight}_{seed}", {KOLEO: weight, "seed": seed})
            per_class(path, [("cat", 3, 0.5 + weight)])
    found = compare([tmp_path], Options())
    drawn = page.draw(found, ())
    assert len(drawn.changes) == 2  # of three groups, one of which is the baseline
    for most, said in ((2, False), (1, True)):
        monkeypatch.setattr(page, "MOST_GROUPS", most)
        assert ("groups that have a baseline" in page.render(found, drawn, [], "")) == said


# -- ten thousand classes ----------------------------------------------------------------------


def test_runs_of_very_many_classes_are_compared(tmp_path: Path) -> None:
    """11,316 classes, whose measures earlier versions kept in summary.json, within bounded memory."""
    classes, random, root = 11_316, np.random.default_rng(0), tmp_path / "runs"
    names = [f"a product that is sold, number {i:05d}" for i in range(classes)]
    labels = np.repeat(np.arange(classes), 2)
    for weight in (0.0, 0.1):
        z = random.normal(size=(len(labels), 4)).astype(np.float32)
        arrays = {"embeddings": z, "labels": labels, "ids": labels.astype(str), "class_names": np.array(names)}
        path = write_run(root / f"{weight}", {KOLEO: weight}, arrays={"test": arrays})
        manifest = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps(manifest | {"data": manifest["data"] | {"classes": names}}))
        measures = [f"{part}/{area}/{name}" for part in ("val", "test") for area in ("ellipse_area", "legacy_area")
                    for name in names]  # fmt: skip
        summary = {name: entry(name, 0.5) for name in ("test/auc", "test/recall_at_1", *measures)}
        (path / "summary.json").write_text(json.dumps(summary, indent=2))
        per_class(path, [(name, 2, float(recall)) for name, recall in zip(names, random.random(classes), strict=True)])
        failed = "".join(f'test,{i},"{name}",1,"{name}",0.9,1,0.8,2\n' for i, name in enumerate(names))
        (path / "failures.csv").write_text(f"{','.join(FAILURES)}\n{failed}")
    assert (root / "0.1" / "summary.json").stat().st_size > 4 * 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, said = run(root, "--out", tmp_path / "out")
    assert status == 0
    assert "2 runs in 2 groups" in said
    assert "left out" not in said
    assert "45,264 measures of single classes are not listed" in said
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 * 2**10  # in KiB
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert max(sizes.values()) < 2 * 2**20, sizes
    page = (tmp_path / "out" / "report.html").read_text()
    assert "11,316 classes:" in page
    assert page.count("11,316 failed queries") == 2
    assert page.count("a product that is sold") < 300


def test_a_matrix_of_very_many_classes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.zeros((30, 30))
    for weight in (0.0, 0.1):
        write_run(tmp_path / f"{weight}", {KOLEO: weight}, arrays={"distances_test": {"matrix": matrix}})
    path = tmp_path / "0.0" / "arrays" / "distances_test.npz"
    assert array_shape(path, "matrix") == (30, 30)
    from siamese.compare import pictures

    found = compare([tmp_path], Options())
    assert len(pictures.matrices(found, "test").own) == 2
    monkeypatch.setattr(pictures, "MOST_SQUARE", 29)
    assert pictures.matrices(found, "test").missing == ["more than the 29 classes that are drawn"]
