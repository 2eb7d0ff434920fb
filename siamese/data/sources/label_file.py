"""Images that a table names, with their labels and what else is known of them."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TypeVar

from siamese.data.files import collection
from siamese.data.files.find import PARTS
from siamese.data.files.listed import files_below, present
from siamese.data.files.source import source_of_files
from siamese.data.images import LabelledImages
from siamese.data.sources.table import Table, read_table
from siamese.decoding.decode import Decoding
from siamese.decoding.formats import is_image_name
from siamese.decoding.names import few
from siamese.errors import ConfigError, nearest, several

log = logging.getLogger(__name__)

T = TypeVar("T")

TRUTH = {"1": True, "true": True, "0": False, "false": False, "": False}
COLUMNS = ("path", "label", "split", "query", "gallery")  # besides that of the groups


@source_of_files
def label_file(root: str, labels: str, group: str | None, decoding: Decoding) -> LabelledImages:
    """The images below ``root`` that the table ``labels`` names, in its order.

    The table is CSV (UTF-8; columns divided by ``,``, ``;`` or tabs) or Parquet, with these columns:

    - ``path``: below ``root``.
    - ``label``: a class; several are divided by ``;``, of which the first is the label and the others more labels.
    - ``split`` (optional): train, val, test, query or gallery.
    - ``group`` (optional), or the one that ``group`` names: what the image belongs to.
    - ``query`` and ``gallery`` (optional, both): 1 or true, 0 or false or nothing. A test image can be either or both.

    Args:
        labels: the file, looked for from the working directory and then below ``root``.
        group: a column, or a pattern, which is no business of this function.

    Raises:
        ConfigError: for a folder, a file or a column that is not there.
        RunError: for rows that cannot be understood, contradict each other or name no file, counted.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"data.root={root}: no such folder")
    table = read_table(_file(labels, folder), ("path", "label"))
    group_column = _group_column(table, group)
    unused = [name for name in table.columns if name not in (*COLUMNS, group_column)]
    if unused:
        log.info("%s: the columns %s are not used", table.file, few(unused))
    there = files_below(folder)
    paths = _paths(table, folder, there)
    classes = _classes(table)
    parts = _parts(table)
    groups = None if group_column is None else [name.strip() for name in table.columns[group_column]]
    if groups is not None and "" in groups:
        log.info("%s: %s rows have an empty %s, and belong to no group", table.file, groups.count(""), group_column)
    rows = _once(table, paths, lambda i: (classes[i], parts[i], groups and groups[i]))
    rows = [rows[i] for i in present(table.file, [paths[i] for i in rows], folder, there, decoding)]
    _report_unnamed(table.file, folder, there, paths)

    names = sorted({name for i in rows for name in classes[i]})
    number = {name: label for label, name in enumerate(names)}
    _check_roles(table.file, [parts[i] for i in rows], [classes[i][0] for i in rows])
    return collection(
        folder,
        [paths[i] for i in rows],
        [number[classes[i][0]] for i in rows],
        names,
        decoding,
        parts=[parts[i] for i in rows],
        groups=groups and [groups[i] for i in rows],
        more_labels=[(image, number[name]) for image, i in enumerate(rows) for name in classes[i][1:]],
    )


def _file(labels: str, root: Path) -> Path:
    given = Path(labels).expanduser()
    file = next((file for file in (given, root / given) if file.is_file()), None)
    if file is None:
        raise ConfigError(f"data.labels={labels}: no such file, neither from the working directory nor below {root}")
    return file


def _group_column(table: Table, group: str | None) -> str | None:
    """The column that says what belongs together; a ``group`` with a (…) is a pattern for ids and not one."""
    if group is None:
        return "group" if "group" in table.columns else None
    if group in table.columns:
        return group
    if "(" in group:
        return None
    raise ConfigError(
        f"data.group={group}: {table.file} has no such column, and without a (…) it is no pattern; expected one of "
        f"{several(table.columns, 10)}{nearest(group, table.columns)}"
    )


def _paths(table: Table, root: Path, there: Container[str]) -> list[str]:
    """The path of each row below ``root`` as its file is called there."""
    roots = [Path(os.path.abspath(root)).as_posix(), Path(os.path.realpath(root)).as_posix()]
    paths, empty, outside = [], [], []
    for i, path in enumerate(table.columns["path"]):
        plain = path if path in there else _plain(path, roots)
        if not path.strip():
            empty.append(i)
        elif plain is None:
            outside.append(i)
        paths.append(plain or "")
    table.refuse(empty, "have an empty path")
    table.refuse(outside, "name a file that is not below the folder of images", f"paths below data.root={root}")
    return paths


def _plain(path: str, roots: Sequence[str]) -> str | None:
    """``path`` (relative, or absolute) as it is below one of ``roots``; None where it leads out of them."""
    plain = posixpath.normpath(path.strip().replace("\\", "/"))  # as Windows writes them
    for root in roots:
        if plain.startswith(f"{root}/"):
            return plain[len(root) + 1 :]
    return None if plain.startswith(("/", "../")) or plain in (".", "..") or plain[1:3] == ":/" else plain


def _classes(table: Table) -> list[tuple[str, ...]]:
    """The classes of each row, the first of them its label."""
    written = table.columns["label"]
    told = {label: tuple(dict.fromkeys(name.strip() for name in label.split(";"))) for label in set(written)}
    classes = [told[label] for label in written]
    table.refuse([i for i, names in enumerate(classes) if "" in names], "have an empty label", "a class in each")
    return classes


def _parts(table: Table) -> list[str]:
    """The part of each row, as :func:`siamese.data.files.collection` takes them; "" where no column says it."""
    split = _understood(table, "split", PARTS)
    asked, searched = _understood(table, "query", TRUTH), _understood(table, "gallery", TRUTH)
    if asked is None and searched is None:
        return split or [""] * len(table)
    if asked is None or searched is None:
        there, lacking = ("gallery", "query") if asked is None else ("query", "gallery")
        raise ConfigError(
            f"data.labels={table.file}: has a column {there!r} and none {lacking!r}; expected both or neither"
        )
    roles = [
        ("test" if is_searched else "query") if is_asked else "gallery" if is_searched else ""
        for is_asked, is_searched in zip(asked, searched, strict=True)
    ]
    if split is None:
        return [role or "train" for role in roles]
    odd = [
        i
        for i, (part, role) in enumerate(zip(split, roles, strict=True))
        if (part not in ("test", role) if role else part not in ("train", "val"))
    ]
    table.refuse(odd, "have a split at odds with query and gallery", "test for those in either, and train or val else")
    return [role or part for role, part in zip(roles, split, strict=True)]


def _understood(table: Table, column: str, meanings: dict[str, T]) -> list[T] | None:
    """What the cells of ``column`` mean, in any case; None without such a column."""
    if column not in table.columns:
        return None
    cells = [cell.strip().lower() for cell in table.columns[column]]
    odd = [i for i, cell in enumerate(cells) if cell not in meanings]
    if odd:
        found = list(dict.fromkeys(table.columns[column][i].strip() for i in odd))
        hint = nearest(found[0].lower(), meanings)
        choices = ", ".join(filter(None, meanings))
        table.refuse(odd, f"have a {column} of {several(map(repr, found))}", f"{choices}{hint}")
    return [meanings[cell] for cell in cells]


def _once(table: Table, paths: Sequence[str], told: Callable[[int], object]) -> list[int]:
    """The rows that are the first of their path; those after it must tell the same."""
    first: dict[str, int] = {}
    for i, path in enumerate(paths):
        first.setdefault(path, i)
    if len(first) == len(paths):
        return list(range(len(paths)))
    again = [i for i, path in enumerate(paths) if first[path] != i]
    odd = [i for i in again if told(i) != told(first[paths[i]])]
    which = few(list(dict.fromkeys(paths[i] for i in odd)))
    table.refuse(odd, f"say otherwise of a path than an earlier row: {which}", "one label, split and group a path")
    log.warning(
        "%s: %s rows repeat an earlier one and count once (%s)",
        table.file,
        f"{len(again):,}",
        few([paths[i] for i in again]),
    )
    return list(first.values())


def _report_unnamed(file: Path, root: Path, there: set[str], paths: Sequence[str]) -> None:
    unnamed = sorted(
        path
        for path in there.difference(paths)
        if is_image_name(path) and not path.startswith(".") and "/." not in path
    )
    if unnamed:
        log.warning(
            "%s: %s images below %s have no row and are not used (%s)",
            file,
            f"{len(unnamed):,}",
            root,
            few(unnamed),
        )


def _check_roles(file: Path, parts: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse queries without a gallery and the reverse; count the classes that only queries have."""
    asked = {label for part, label in zip(parts, labels, strict=True) if part in ("query", "test")}
    searched = {label for part, label in zip(parts, labels, strict=True) if part in ("gallery", "test")}
    for role, other, others in (("query", "gallery", searched), ("gallery", "query", asked)):
        if role in parts and not others:
            raise ConfigError(f"data.labels={file}: has {role} images and no {other} images; expected both or neither")
    alone = sorted(asked - searched)
    if "query" in parts and alone:
        log.warning(
            "%s: %s classes have query images and no gallery image, and cannot be found (%s)",
            file,
            f"{len(alone):,}",
            few(alone),
        )
