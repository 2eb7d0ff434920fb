"""A table of text with named columns, from a file that anybody may have written: CSV, or Parquet."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from siamese.errors import RunError, nearest, several

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """The columns of ``file``, a cell a row.

    Attributes:
        columns: [N] each, by name.
        places: [N], where each row stands in the file: its line, or in Parquet its row.
        place: what such a number is called.
    """

    file: Path
    columns: dict[str, list[str]]
    places: Sequence[int]
    place: str

    def __len__(self) -> int:
        return len(self.places)

    def refuse(self, rows: Collection[int], what: str, expected: str = "") -> None:
        """Refuse the ``rows`` (their numbers), if there are any.

        Raises:
            RunError: with how many they are and where.
        """
        if rows:
            where = f"{self.place}{'s' * (len(rows) > 1)} {several(self.places[row] for row in rows)}"
            wanted = f"; expected {expected}" if expected else ""
            raise RunError(f"{self.file}: {len(rows):,} of {len(self):,} rows {what} ({where}){wanted}")


def read_table(file: Path, wanted: Sequence[str]) -> Table:
    """The table in ``file``: Parquet after its suffix, or else UTF-8 text whose first line names the columns.

    Args:
        wanted: columns that it must have. What is between columns (``,``, ``;`` or a tab) is what they are found by.

    Raises:
        RunError: for a file that is no such table, or lacks a column.
    """
    table = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file, wanted)
    for name in wanted:
        if name not in table.columns:
            raise RunError(
                f"{file}: expected a column {name!r}, found {several(table.columns, 10)}{nearest(name, table.columns)}"
            )
    if not len(table):
        raise RunError(f"{file}: expected rows below the names of the columns, found none")
    return table


def _csv(file: Path, wanted: Sequence[str]) -> Table:
    columns: list[list[str]] = []
    lines: list[int] = []
    ragged = []
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            header = stream.readline()
            delimiter = max(DELIMITERS, key=lambda d: (len({*wanted} & {*_fields(header, d)}), header.count(d)))
            names = _fields(header, delimiter)
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            columns = [[] for _ in names]
            for row in reader:
                line = 1 + reader.line_num
                if not row:  # an empty line
                    continue
                if len(row) != len(names):
                    ragged.append(len(lines))
                lines.append(line)
                for column, cell in zip(columns, row, strict=False):
                    column.append(cell)
    except UnicodeError as error:
        raise RunError(f"{file}: expected text in UTF-8, found another encoding ({error})") from None
    except csv.Error as error:
        raise RunError(f"{file}: cannot be read after line {line} ({error}); expected CSV") from None
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror})") from None
    _check_names(file, names)
    table = Table(file, dict(zip(names, columns, strict=True)), lines, "line")
    hint = " (a field with one in it stands in double quotes)"
    table.refuse(ragged, f"have not {len(names)} fields", f"{delimiter!r} between {', '.join(names)}{hint}")
    return table


def _fields(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def _check_names(file: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RunError(f"{file}: expected columns of different names, found twice {', '.join(map(repr, twice))}")


def _parquet(file: Path) -> Table:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise RunError(f"{file}: Parquet is read by pyarrow, which is not installed; expected it, or CSV") from None
    try:
        read = parquet.read_table(file)
        names = list(read.column_names)
        columns = [_text(column.to_pylist()) for column in read.columns]
    except Exception as error:  # pyarrow has errors of its own
        raise RunError(f"{file}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    _check_names(file, names)
    return Table(file, dict(zip(names, columns, strict=True)), range(1, read.num_rows + 1), "row")


def _text(values: Iterable[object]) -> list[str]:
    return ["" if value is None else str(value) for value in values]
