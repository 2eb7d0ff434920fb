"""A survey as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from siamese.decoding.names import one_line
from siamese.survey.look import Survey

SHOWN = 12  # classes, formats and the like
BAR = 40  # characters of the longest bar
BINS = 10


def facts(survey: Survey) -> list[tuple[str, str]]:
    """What there is to say of the collection as a whole, in words."""
    source, sizes = survey.source, survey.sizes
    height, width = survey.data.size
    said = [
        ("images", f"{len(source.ids):,}, {source.images.nbytes / 1e6:,.0f} MB at {height}x{width} pixels"),
        ("classes", f"{len(source.class_names):,}"),
    ]
    if source.groups is not None:
        said.append(("groups", f"{len(np.unique(source.groups)):,}"))
    if survey.formats:
        most = sorted(survey.formats.items(), key=lambda item: (-item[1], item[0]))
        said.append(("formats", ", ".join(f"{suffix or 'no suffix'} {count:,}" for suffix, count in most[:SHOWN])))
    if len(sizes):
        smallest, middle, largest = sizes[np.argsort(sizes.prod(1))][[0, len(sizes) // 2, -1]]
        said.append(
            ("sizes", " · ".join(f"{w}x{h}" for w, h in (smallest, middle, largest)) + " (least, median, most)")
        )
    for kind, names in survey.skipped.items():
        said.append(("skipped", f"{kind}: {len(names):,}, such as {one_line(names[0])}"))
    said.append(("same pixels", f"{_pairs(len(survey.duplicates))} across parts or classes"))
    if survey.near is not None:
        said.append(("look alike", _pairs(len(survey.near))))
    said += [("split", remark) for remark in survey.remarks]
    if survey.refused:
        said.append(("split", f"cannot be split as it stands: {survey.refused}"))
    return said


def histogram(survey: Survey) -> list[tuple[str, int]]:
    """How many classes have how many images: ranges of equal width, and the classes in each."""
    counts = survey.counts["images"]
    if not len(counts):
        return []
    low, high = int(counts.min()), int(counts.max())
    width = max(1, -(-(high - low + 1) // BINS))
    starts = range(low, high + 1, width)
    texts = [f"{start:,}" if width == 1 else f"{start:,}–{start + width - 1:,}" for start in starts]
    found = np.bincount((counts - low) // width, minlength=len(starts))
    return [(text, int(count)) for text, count in zip(texts, found, strict=True)]


def tables(survey: Survey) -> Iterator[RenderableType]:
    """The facts, the sizes of classes, and how classes would be split."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts(survey):
        table.add_row(name, Text(_printable(text)))
    yield table
    bins = histogram(survey)
    if len(bins) > 1:
        table = Table(title="sizes of classes", box=None, pad_edge=False, title_justify="left")
        table.add_column("images", justify="right")
        table.add_column("classes", justify="right")
        table.add_column()
        most = max(count for _, count in bins)
        for text, count in bins:
            table.add_row(text, f"{count:,}", "█" * round(BAR * count / most) or "▏" * bool(count))
        yield table
    if survey.source.class_names:
        yield _classes(survey)


def _classes(survey: Survey) -> Table:
    counts, names = survey.counts, survey.source.class_names
    order = np.argsort(-counts["images"], kind="stable")
    left = max(0, len(order) - SHOWN)
    table = Table(
        title=f"the largest and smallest of {len(names):,} classes" if left else "classes",
        box=None,
        pad_edge=False,
        title_justify="left",
    )
    table.add_column("class", overflow="fold")
    for name in counts:
        table.add_column(name, justify="right")
    half = SHOWN // 2
    for place, label in enumerate(order):
        if left and half <= place < len(order) - half:
            if place == half:
                table.add_row("…")
            continue
        table.add_row(Text(_printable(names[label])), *(f"{count[label]:,}" for count in counts.values()))
    return table


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _pairs(count: int) -> str:
    return f"{count:,} pair{'s' * (count != 1)}"
