"""Tables of labels: what they say is what the data set is, and what they cannot mean is counted and named."""

from __future__ import annotations

import csv
import io
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.layouts import write_image
from support.processes import Cli

from siamese.config.data import Data
from siamese.data.files.listed import files_below
from siamese.data.images import LabelledImages
from siamese.data.load import describe
from siamese.errors import ConfigError, RunError

ROWS = [("a/1.png", "cat"), ("a/2.png", "dog"), ("b/3.png", "cat"), ("b/4.png", "dog"), ("5.png", "emu")]


def table(rows: Sequence[Sequence[str]], header: str = "path,label", delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header.split(","), *rows])
    return text.getvalue()


def written(root: Path, content: str | bytes, files: Sequence[str] = [path for path, _ in ROWS]) -> Path:
    """``root`` with labels.csv and empty image ``files``, which are described and not decoded."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def described(root: Path, labels: str = "labels.csv", **keys: Any) -> LabelledImages:
    return describe(Data(source={"_target_": "siamese.data.label_file"}, root=str(root), labels=labels, **keys), 0)


def names(source: LabelledImages) -> list[tuple[str, str]]:
    classes = [source.class_names[label] for label in source.labels.tolist()]
    return list(zip(source.ids.tolist(), classes, strict=True))


# -- what a table says -----------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_become_images_in_their_order(tmp_path: Path, delimiter: str, encoding: str, end: str) -> None:
    text = table(ROWS, delimiter=delimiter).replace("\r\n", end)
    source = described(written(tmp_path, text.encode(encoding)))
    assert names(source) == ROWS
    assert source.class_names == ("cat", "dog", "emu")
    assert source.images.shape == (5, 3, 32, 32)
    assert not source.is_test.any()
    assert source.is_validation is source.groups is source.roles is source.more_labels is None


def test_what_divides_the_columns_is_what_finds_path_and_label(tmp_path: Path) -> None:
    rows = [(*row, "x") for row in ROWS]
    assert names(described(written(tmp_path, "path,label,a;b;c;d\n" + table(rows).partition("\n")[2]))) == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_first_of_several_labels_is_the_label(tmp_path: Path, delimiter: str) -> None:
    rows = [("a/1.png", "dog; cat;emu"), ("a/2.png", "cat"), ("5.png", "emu;dog;emu")]
    source = described(written(tmp_path, table(rows, delimiter=delimiter), [r[0] for r in rows]))
    assert names(source) == [("a/1.png", "dog"), ("a/2.png", "cat"), ("5.png", "emu")]
    assert source.more_labels is not None
    more = [(int(image), source.class_names[label]) for image, label in source.more_labels]
    assert more == [(0, "cat"), (0, "emu"), (2, "dog")]


def test_parts_and_groups_are_told(tmp_path: Path) -> None:
    split = ["Train", "VAL", "valid", "validation", "test"]
    rows = [(*row, part, f"patient{i // 2}", "x") for i, (row, part) in enumerate(zip(ROWS, split, strict=True))]
    root = written(tmp_path, table(rows, "path,label,split,group,patient"))
    source = described(root)
    assert source.is_test.tolist() == [False] * 4 + [True]
    assert source.is_validation is not None
    assert source.is_validation.tolist() == [False, True, True, True, False]
    assert source.groups is not None
    assert source.groups.tolist() == ["patient0", "patient0", "patient1", "patient1", "patient2"]
    for group, expected in (("patient", ["x"] * 5), (r"(\d)\.png", ["1", "2", "3", "4", "5"])):
        groups = described(root, group=group).groups
        assert groups is not None
        assert groups.tolist() == expected


@pytest.mark.parametrize("split", [None, "test", "own"])
def test_queries_and_gallery_are_test_images(tmp_path: Path, split: str | None) -> None:
    cells = [("0", "false"), ("1", "0"), ("", "TRUE"), ("True", "1"), ("0", "1")]
    own = ["train", "query", "gallery", "test", "gallery"]
    parts = ["train", *["test"] * 4] if split == "test" else own
    header = "path,label,query,gallery" + ",split" * (split is not None)
    rows = [[*row, *c, *([p] * (split is not None))] for row, c, p in zip(ROWS, cells, parts, strict=True)]
    source = described(written(tmp_path, table(rows, header)))
    assert source.is_test.tolist() == [False, True, True, True, True]
    assert source.roles is not None
    assert source.roles.tolist() == ["", "query", "gallery", "", "gallery"]  # the fourth is both


def test_split_alone_can_name_queries_and_gallery(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    parts = ["train", "gallery", "query", "gallery", "query"]
    rows = [(*row, part) for row, part in zip(ROWS, parts, strict=True)]
    with caplog.at_level(logging.WARNING):
        source = described(written(tmp_path, table(rows, "path,label,split")))
    assert source.roles is not None
    assert source.roles.tolist() == ["", *parts[1:]]
    assert "2 classes have query images and no gallery image, and cannot be found (cat, emu)" in caplog.text


def test_paths_may_be_absolute_or_of_windows(tmp_path: Path) -> None:
    paths = [f"{tmp_path}/a/1.png", "a\\2.png", "./b//3.png", "b/../b/4.png", " 5.png "]
    rows = [(path, label) for path, (_, label) in zip(paths, ROWS, strict=True)]
    assert names(described(written(tmp_path, table(rows)))) == ROWS


def test_a_name_that_has_a_backslash_is_found_as_it_is(tmp_path: Path) -> None:
    source = described(written(tmp_path, table([("a\\1.png", "cat")]), ["a\\1.png"]))
    assert source.ids.tolist() == ["a\\1.png"]


def test_linked_folders_are_entered_and_one_that_leads_back_ends(tmp_path: Path) -> None:
    written(tmp_path / "elsewhere", "", ["1.png"])
    root = written(tmp_path / "root", table([("there/1.png", "cat")]), [])
    (root / "there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere")
    assert files_below(root) == {"labels.csv", "there/1.png", "there/labels.csv"}
    assert described(root).ids.tolist() == ["there/1.png"]


def test_labels_are_looked_for_as_given_and_then_below_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = written(tmp_path / "root", table(ROWS))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert names(described(root)) == ROWS
    Path("labels.csv").write_text(table(ROWS[:2]))
    assert names(described(root)) == ROWS[:2]
    assert names(described(root, str(root / "labels.csv"))) == ROWS


@given(
    cells=st.lists(
        st.tuples(
            st.lists(st.text("abç,;\"' \n", min_size=1, max_size=6), min_size=1, max_size=3),
            st.sampled_from(["train", "val", "test"]),
        ),
        min_size=1,
        max_size=12,
    ),
    delimiter=st.sampled_from(",;\t"),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_as_csv_is_read_again(cells: list[tuple[list[str], str]], delimiter: str) -> None:
    """Against a reading of the labels that were written, quotes, blanks and all."""
    labels = [[part.strip() for label in several for part in label.split(";")] for several, _ in cells]
    rows = [(f"{i}.png", ";".join(several), part) for i, (several, part) in enumerate(cells)]
    with tempfile.TemporaryDirectory() as folder:
        root = written(Path(folder), table(rows, "path,label,split", delimiter), [row[0] for row in rows])
        if any("" in parts for parts in labels):
            with pytest.raises(
                RunError, match=rf": {sum('' in parts for parts in labels)} of {len(rows)} rows have an em"
            ):
                described(root)
            return
        source = described(root)
    more = [] if source.more_labels is None else source.more_labels.tolist()
    found = [{source.class_names[label]} for label in source.labels.tolist()]
    assert [label for (label,) in found] == [parts[0] for parts in labels]
    for image, label in more:
        found[image].add(source.class_names[label])
    assert found == [set(parts) for parts in labels]
    assert source.is_test.tolist() == [part == "test" for _, part in cells]


# -- what it cannot mean ---------------------------------------------------------------------------

SPLIT = "path,label,split"


def with_column(*cells: str) -> list[tuple[str, ...]]:
    return [(*row, *cell.split("|")) for row, cell in zip(ROWS, cells, strict=True)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "labels.csv: expected a column 'path', found "),
        ("path,label\n", "labels.csv: expected rows below the names of the columns, found none"),
        (table(ROWS, "pth,label"), "expected a column 'path', found pth, label; did you mean 'pth'?"),
        (table(ROWS, "path,labels"), "expected a column 'label', found path, labels; did you mean 'labels'?"),
        (table(with_column(*"xxxxx"), "path,label,label"), "expected columns of different names, found twice 'label'"),
        (table(ROWS) + "a\n\nb,c,d\n", "2 of 7 rows have not 2 fields (lines 7, 9); expected ',' between path, label"),
        (table(ROWS) + '"a,b\n', "cannot be read after line 6 (unexpected end of data); expected CSV"),
        (table(ROWS).encode("utf-16"), "expected text in UTF-8, found another encoding ('utf-8' codec can't decode"),
        (table([*ROWS, ("é.png", "x")]).encode("latin-1"), "expected text in UTF-8, found another encoding"),
        (table([*ROWS, ("", "cat"), (" ", "cat")]), "2 of 7 rows have an empty path (lines 7, 8)"),
        (table([*ROWS, ("x", ""), ("y", " "), ("z", "cat;;dog")]), "3 of 8 rows have an empty label (lines 7, 8, 9)"),
        (table([*ROWS, ("../x.png", "a")]), "1 of 6 rows name a file that is not below the folder of images (line 7)"),
        (table([("/etc/x.png", "a"), *ROWS, ("C:\\x.png", "a")]), "2 of 7 rows name a file that is not below the fold"),
        (table([*ROWS, ("b/../../x", "a")]), "1 of 6 rows name a file that is not below the folder of images (line 7)"),
        (
            table([*ROWS, *((f"gone/{i}.png", "cat") for i in range(7))]),
            "7 of 12 rows name a file that is not below {root} (gone/0.png, gone/1.png, gone/2.png, "
            "gone/3.png, gone/4.png and 2 more); expected all of them, or data.damaged=skip",
        ),
        (table([*ROWS, ("a", "cat")]), "1 of 6 rows name a file that is not below {root} (a)"),  # a folder
        (table([*ROWS, ("x\n\x1by", "cat")]), r"1 of 6 rows name a file that is not below {root} (x\n\x1by)"),
        (
            table([*ROWS, ("./a/1.png", "dog"), ("5.png", "cat"), ("5.png", "dog"), ("a/2.png", "dog")]),
            "3 of 9 rows say otherwise of a path than an earlier row: a/1.png, 5.png (lines 7, 8, 9)",
        ),
        (
            table([*with_column(*["train"] * 5), ("5.png", "emu", "test")], SPLIT),
            "1 of 6 rows say otherwise of a path than an earlier row: 5.png (line 7)",
        ),
        (
            table(with_column("train", "tset", "tset", "dev", ""), SPLIT),
            "4 of 5 rows have a split of 'tset', 'dev', '' (lines 3, 4, 5, 6); expected train, val, valid, validation, "
            "test, query, gallery; did you mean 'test'?",
        ),
        (
            table(with_column("yes|1", "0|1", "1|0", "0|0", "1|1"), "path,label,query,gallery"),
            "1 of 5 rows have a query of 'yes' (line 2); expected 1, true, 0, false",
        ),
        (
            table(with_column("train|0|0", "test|0|0", "train|1|0", "query|0|1", "test|1|1"), SPLIT + ",query,gallery"),
            "3 of 5 rows have a split at odds with query and gallery (lines 3, 4, 5); expected test for those in ",
        ),
    ],
)
def test_rows_that_cannot_be_are_counted_in_one_line(tmp_path: Path, content: str | bytes, says: str) -> None:
    written(tmp_path, content)
    with pytest.raises(RunError) as raised:
        described(tmp_path)
    assert says.replace("{root}", str(tmp_path)) in str(raised.value)
    assert str(tmp_path / "labels.csv") in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "keys", "says"),
    [
        (table(ROWS), {"labels": "lables.csv"}, "data.labels=lables.csv: no such file"),
        (table(ROWS), {"root": "/no/where"}, "data.root=/no/where: no such folder"),
        (
            table(with_column(*"aabbc"), "path,label,patient"),
            {"group": "patent"},
            "data.group=patent: {root}/labels.csv has no such column, and without a (…) it is no pattern; expected one "
            "of path, label, patient; did you mean 'patient'?",
        ),
        (table(with_column(*"00011"), "path,label,query"), {}, "has a column 'query' and none 'gallery'"),
        (table(with_column(*"00011"), "path,label,gallery"), {}, "has a column 'gallery' and none 'query'"),
        (table(with_column(*["train"] * 4, "query"), SPLIT), {}, "has query images and no gallery images"),
        (table(with_column(*["train"] * 4, "gallery"), SPLIT), {}, "has gallery images and no query images"),
    ],
)
def test_what_was_typed_is_refused_by_its_key(tmp_path: Path, content: str, keys: dict[str, str], says: str) -> None:
    written(tmp_path, content)
    with pytest.raises(ConfigError) as raised:
        described(**{"root": tmp_path} | keys)  # type: ignore[arg-type]
    assert says.replace("{root}", str(tmp_path)) in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, table(ROWS))
    scandir = os.scandir

    def refusing(folder: Path) -> Any:
        if folder == tmp_path / "b":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(RunError, match=r"/b: cannot be read \(Permission denied\)"):
        described(tmp_path)


# -- what is left out is said ----------------------------------------------------------------------


def test_missing_files_are_skipped_when_asked_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("gone.png", "gnu"), *ROWS[:2], ("lost.png", "cat;yak"), ROWS[2], ("5.png", "emu;dog")]
    written(tmp_path, table(rows))
    with caplog.at_level(logging.WARNING):
        source = described(tmp_path, damaged="skip")
    assert names(source) == [*ROWS[:3], ROWS[4]]
    assert source.class_names == ("cat", "dog", "emu")
    assert source.more_labels is not None
    assert source.more_labels.tolist() == [[3, 1]]
    assert f"2 of 6 rows name a file that is not below {tmp_path} (gone.png, lost.png); they are left" in caplog.text


def test_odd_names_are_written_out_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        described(written(tmp_path, table(ROWS), [*(path for path, _ in ROWS), "a/x\n\x1by.png"]))
    assert "(a/x\\n\\x1by.png)" in caplog.text


def test_images_without_a_row_and_rows_that_repeat_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, table([*ROWS[:3], ROWS[0], ("a\\2.png", "dog")]))
    for file in (".hidden.png", ".git/x.png", "notes.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with caplog.at_level(logging.WARNING):
        assert names(described(tmp_path)) == ROWS[:3]
    assert "2 rows repeat an earlier one and count once (a/1.png, a/2.png)" in caplog.text
    assert f"2 images below {tmp_path} have no row and are not used (5.png, b/4.png)" in caplog.text


def test_columns_that_mean_nothing_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, table(with_column(*["train|x"] * 4, "train|y"), "path,label,splt,note"))
    with caplog.at_level(logging.INFO):
        described(tmp_path)
    assert "the columns splt, note are not used" in caplog.text


def test_an_empty_group_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, table(with_column("a", "", "a", " ", "b"), "path,label,group"))
    with caplog.at_level(logging.INFO):
        source = described(tmp_path)
    assert source.groups is not None
    assert source.groups.tolist() == ["a", "", "a", "", "b"]
    assert "2 rows have an empty group, and belong to no group" in caplog.text


# -- Parquet ---------------------------------------------------------------------------------------


def test_parquet_without_pyarrow_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    written(tmp_path, "").joinpath("labels.csv").rename(tmp_path / "labels.parquet")
    with pytest.raises(
        RunError, match=r"labels.parquet: Parquet is read by pyarrow, which is not installed; expected it"
    ):
        described(tmp_path, "labels.parquet")


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    written(tmp_path, table(ROWS))
    columns = {
        "path": [path for path, _ in ROWS],
        "label": [1, 2, 1, 2, 3],
        "query": [True, False, False, False, True],
        "gallery": [True, None, True, False, True],
    }
    parquet.write_table(pa.table(columns), tmp_path / "labels.parquet")
    source = described(tmp_path, "labels.parquet")
    assert names(source) == [(path, str(label)) for (path, _), label in zip(ROWS, columns["label"], strict=True)]
    assert source.is_test.tolist() == [True, False, True, False, True]
    (tmp_path / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"labels.parquet: cannot be read as Parquet"):
        described(tmp_path, "labels.parquet")


# -- whole -----------------------------------------------------------------------------------------


def test_a_large_table_is_read_in_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 rows here, which take half a second; what is quadratic takes minutes."""
    paths = [f"{i % 100}/{i}.jpg" for i in range(100_000)]
    monkeypatch.setattr("siamese.data.sources.label_file.files_below", lambda root: set(paths))
    rows = [(path, f"c{i % 9000};c{(i + 1) % 9000}", ("train", "test")[i % 2]) for i, path in enumerate(paths)]
    written(tmp_path, table(rows, SPLIT), [])
    began = time.monotonic()
    source = described(tmp_path)
    assert time.monotonic() - began < 5
    assert source.labels.shape == (100_000,)
    assert source.more_labels is not None
    assert np.array_equal(source.more_labels[:, 0], np.arange(100_000))


def test_a_table_trains_from_the_command_line(train_cli: Cli, tmp_path: Path) -> None:
    rows = []
    for c in range(3):
        for i in range(12):
            path = f"{'abc'[c]}{i}.png"
            write_image(tmp_path / "images" / path, c)
            rows.append((path, f"class {c}", "test" if i >= 8 else "validation" if i >= 5 else "train"))
    (tmp_path / "images" / "labels.csv").write_text(table(rows, SPLIT))
    train_cli(
        *("data=label_file", f"data.root={tmp_path / 'images'}", "data.labels=labels.csv"),
        *(
            "data.image_size=16",
            "data.batch_size=4",
            "data.augment.crop_padding=0",
            f"data.cache_dir={tmp_path / 'cache'}",
        ),
        *("model=conv_small", "model.width=4", "device=cpu", "trainer.max_epochs=1", "figures.draw=false"),
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda words: words[:1] + words[2:], "data.root: label_file needs it (write data.root=VALUE)"),
        (lambda words: words[:2], "data.labels: label_file needs it (write data.labels=VALUE)"),
        (lambda words: [*words, "data.labels=other.csv"], "data.labels=other.csv: no such file"),
        (lambda words: ["data=digits", *words[2:]], "data.labels=labels.csv: digits has no use for it"),
    ],
)
def test_words_that_do_not_go_together_are_refused(
    change: Callable[[list[str]], list[str]], says: str, train_cli: Cli, tmp_path: Path
) -> None:
    written(tmp_path, table(ROWS))
    words = ["data=label_file", f"data.root={tmp_path}", "data.labels=labels.csv"]
    done = train_cli(*change(words), f"hydra.run.dir={tmp_path / 'run'}", check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.strip().count("\n") == 0
