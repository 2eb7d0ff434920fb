"""Where an embedding fails, as text: the worst classes and the worst queries of tables that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.cells import cell_len, set_cell_size

from siamese.errors import RunError, nearest, several
from siamese.runs.tables import read_failures, read_per_class

MOST = 10  # classes, and queries, that are shown

Row = dict[str, str]

# Headings, columns of the tables, and widths; with the blanks between them 80 columns or fewer.
OF_CLASSES = (
    ("class", "class", 22),
    ("images", "images", 6),
    ("recall_at_1", "recall_at_1", 11),
    ("map_at_r", "map_at_r", 8),
    ("intra", "intra_distance", 6),
    ("taken for", "taken_for", 15),
    ("share", "taken_for_share", 6),
)
OF_QUERIES = (
    ("id", "id", 17),
    ("class", "class", 11),
    ("nearest", "nearest", 17),
    ("its class", "nearest_class", 11),
    ("cosine", "cosine_nearest", 6),
    ("right", "cosine_right", 6),
    ("rank", "rank", 6),
)
NAMES = {"class", "taken_for", "id", "nearest", "nearest_class"}
WHOLE = {"images", "rank"}


def evaluation_folder(run: Path, name: str | None) -> Path:
    """RUN, or RUN/evaluations/NAME where an evaluation is named.

    Raises:
        RunError: where there is none of that name, with those that there are.
    """
    if name is None:
        return run
    there = sorted(folder.name for folder in (run / "evaluations").glob("*") if folder.is_dir())
    if name not in there:
        found = several(there) if there else "none"
        raise RunError(f"{run / 'evaluations'}: holds no evaluation {name!r}; found {found}{nearest(name, there)}")
    return run / "evaluations" / name


def failures_text(folder: Path, part: str | None, again: str) -> str:
    """The worst classes and queries of ``folder``, a run or an evaluation, as text of 80 columns.

    Args:
        part: validation or test; None is every part that the tables have.
        again: the command that makes the tables.

    Raises:
        RunError: where there are no such tables, or none of ``part``, or they cannot be read.
    """
    classes, queries = read_per_class(folder), read_failures(folder)
    path = folder / "per_class.csv"
    if not classes or "recall_at_1" not in classes[0]:
        found = "has no column recall_at_1" if classes else "not there"
        raise RunError(f"{path}: {found}, so no failures are known; {again} measures them")
    parts = dict.fromkeys(row["part"] for row in classes)
    if part is not None and part not in parts:
        raise RunError(f"{path}: holds no classes of {part}, only of {several(parts)}; {again} measures them")
    blocks: list[str] = []
    for name in parts if part is None else [part]:
        poor = worst_classes([row for row in classes if row["part"] == name])
        wrong = [row for row in queries if row["part"] == name]
        if poor and not wrong:
            path = folder / "failures.csv"
            raise RunError(f"{path}: holds none of the failed queries of {name}; {again} writes them")
        if not any(row["recall_at_1"] for row in classes if row["part"] == name):
            blocks.append(f"{name}: no image has another one of its class to find")
        else:
            blocks += _of_part(folder, name, poor, wrong)
    return "\n".join(blocks)


def worst_classes(rows: Sequence[Row]) -> list[Row]:
    """Those of ``rows`` of per_class.csv that have queries with a wrong nearest image: by recall_at_1, then map_at_r,
    the lowest first."""
    found = [row for row in rows if row["recall_at_1"] and float(row["recall_at_1"]) < 1]
    return sorted(found, key=lambda row: (float(row["recall_at_1"]), float(row.get("map_at_r") or 0), row["class"]))


def _of_part(folder: Path, part: str, poor: Sequence[Row], wrong: Sequence[Row]) -> Iterator[str]:
    if not poor:
        yield f"{part}: no failures: the nearest image of every query is of its class"
        return
    yield f"{part}: the worst {_of_all(poor)} classes (intra: mean cosine distance of two images)"
    yield from _table(OF_CLASSES, poor[:MOST])
    yield ""
    yield f"{part}: the worst {_of_all(wrong)} failed queries (right, rank: of the first of its class)"
    yield from _table(OF_QUERIES, wrong[:MOST])
    for figure in sorted((folder / "figures").glob(f"failures_{part}.*")):
        yield f"drawn in {figure}"
    yield ""


def _of_all(rows: Sequence[Row]) -> str:
    return f"{MOST} of {len(rows):,}" if len(rows) > MOST else str(len(rows))


def _table(columns: Sequence[tuple[str, str, int]], rows: Sequence[Row]) -> Iterator[str]:
    def line(cells: Sequence[str]) -> str:
        padded = (
            set_cell_size(cell, width) if column in NAMES else cell.rjust(width)
            for cell, (_, column, width) in zip(cells, columns, strict=True)
        )
        return " ".join(padded).rstrip()

    yield line([heading for heading, _, _ in columns])
    for row in rows:
        yield line([_cell(row.get(column, ""), column, width) for _, column, width in columns])


def _cell(value: str, column: str, width: int) -> str:
    if column in NAMES:
        return cut("".join(sign if sign.isprintable() else "?" for sign in value), width)
    if not value:
        return ""
    return f"{int(float(value)):,}" if column in WHOLE else f"{float(value):.3f}"


def cut(name: str, width: int) -> str:
    """``name`` in at most ``width`` columns of a terminal: of a longer one the middle is left out."""
    if cell_len(name) <= width:
        return name
    tail = width // 2
    end = set_cell_size(name[::-1], tail)[::-1].lstrip()
    return f"{set_cell_size(name, width - 1 - tail).rstrip()}…{end}"
