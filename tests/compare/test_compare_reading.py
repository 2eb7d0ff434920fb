"""What a comparison looks like to its reader: whole numbers at any width, one rounding a metric, a name a group."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.console import Console
from support.synthetic_runs import write_run

from siamese.commands import compare as command
from siamese.compare import charts
from siamese.compare.comparison import Options, compare
from siamese.compare.forest import forests
from siamese.compare.grouping import shown
from siamese.compare.rounding import rounded, shared_decimals
from siamese.compare.svg import short, tick_texts, ticks
from siamese.compare.wording import difference_text, mean_and_interval, number

BATCH, KOLEO, LIMIT = "data.batch_size", "loss.koleo_weight", "trainer.limit_train_batches"


def sweep(root: Path, seeds: int = 4, metrics: int = 1) -> Path:
    random = np.random.default_rng(0)
    for batch in (16, 128):
        for weight in (0.0, 0.1):
            for seed in range(seeds):
                values = {f"test/measure_{i}": 0.9 + weight / 10 + random.normal(0, 0.003) for i in range(metrics)}
                write_run(root / f"{batch}_{weight}_{seed}", {BATCH: batch, KOLEO: weight, "seed": seed}, values)
    return root


@pytest.mark.parametrize("width", [40, 80, 200])
def test_every_number_is_whole_on_a_terminal_of_any_width(tmp_path: Path, width: int) -> None:
    root = sweep(tmp_path / "s", metrics=7)
    text = io.StringIO()
    assert command.main([str(root), "--metrics", "test/*"], Console(file=text, width=width)) == 0
    shown_lines = text.getvalue()
    assert "…" not in shown_lines
    found = compare([root], Options(metrics=("test/*",)))
    for cell in found.cells.values():
        assert f"  {mean_and_interval(cell, 4)}" in shown_lines
    for d in found.differences:
        assert f"against {d.baseline.letter}  {difference_text(d)}" in shown_lines
        assert d.says in shown_lines
    if width == 80:
        body = shown_lines[: shown_lines.index("written to")]
        assert max(map(len, body.splitlines())) <= 80


def test_numbers_of_a_metric_share_their_decimals_and_equal_texts_a_colour(tmp_path: Path) -> None:
    values = {(16, 0.0): 0.91201, (16, 0.1): 0.91199, (128, 0.0): 0.95, (128, 0.1): 0.93}
    for (batch, weight), mean in values.items():
        for seed in range(3):
            own = {"test/auc": mean + (seed - 1) * (1e-5 if batch == 16 else 0.01)}
            write_run(tmp_path / f"{batch}_{weight}_{seed}", {BATCH: batch, KOLEO: weight, "seed": seed}, own)
    found = compare([tmp_path], Options())
    assert {cell.decimals for cell in found.cells.values()} == {6}
    halves = [cell.half for cell in found.cells.values()]
    assert shared_decimals([], halves) == 6  # of the median, the lower of the two in the middle
    assert shared_decimals([0.5, 0.25], [None, None]) == 4
    assert shared_decimals([1234.5, 3.0], []) == 0
    assert shared_decimals([2e-7], []) is None
    assert rounded(0.123449, 4) == rounded(0.12341, 4) == 0.1234
    coarse = [c.__class__(c.values, c.mean, c.low, c.high, 2) for c in found.cells.values()]
    found.cells.update(zip(found.cells, coarse, strict=True))
    drawing = charts.heatmap(found, found.metrics[0], (BATCH, KOLEO)).drawing
    texts = re.findall(r'class="value"[^>]*>([^<]*)<', drawing) or re.findall(r"<text[^>]*value[^>]*>([^<]*)<", drawing)
    shades = re.findall(r'fill-opacity="([\d.]+)"', drawing)
    assert texts == ["0.91", "0.91", "0.95", "0.93"]
    assert shades[0] == shades[1] < shades[3] < shades[2]


@given(some.floats(-2, 2) | some.sampled_from([-0.0, -4e-5, 4e-5]), some.none() | some.integers(0, 6), some.booleans())
def test_a_number_has_a_sign_where_it_is_not_shown_as_zero(value: float, decimals: int | None, sign: bool) -> None:
    text = number(value, sign, decimals)
    plain = float(text.replace("−", "-"))
    assert plain == rounded(value, decimals)
    assert (text[0] == "−") == (plain < 0)
    assert (text[0] == "+") == (plain > 0 and sign)


def test_zero_has_no_minus_in_a_drawing_or_in_a_report(tmp_path: Path) -> None:
    assert [short(-0.04), short(-0.06), *tick_texts([-0.0, 0.5])] == ["0", "-0.1", "0.0", "0.5"]
    for weight in (0.0, 0.1):
        for seed, shift in enumerate((1e-3, -1e-3, -3e-9)):
            own = {"test/auc": 0.9 + shift * (weight > 0)}
            write_run(tmp_path / "s" / f"{weight}_{seed}", {KOLEO: weight, "seed": seed}, own)
    text = io.StringIO()
    assert command.main([str(tmp_path / "s"), "--out", str(tmp_path / "out")], Console(file=text, width=200)) == 0
    written = (tmp_path / "out" / "report.html").read_text() + (tmp_path / "out" / "table.md").read_text()
    assert " 0.0000 [−0.0025, +0.0025]" in text.getvalue()
    assert not re.search(r"[−+]0[.]0*(?!\d)", text.getvalue() + written)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (1, "1"),
        (0.1, "0.1"),
        (1e-08, "1e-08"),
        (0.123456789, "0.123456789"),
        (True, "true"),
        (None, "null"),
    ],
)
def test_a_value_is_shown_as_it_is_typed(value: object, text: str) -> None:
    assert shown(value) == text


def test_no_two_groups_have_one_name(tmp_path: Path) -> None:
    for i, (limit, target) in enumerate([(1.0, "a.Net"), (1, "a.Net"), (1.0, "b.Net"), (1, "b.Net")]):
        write_run(tmp_path / str(i), {LIMIT: limit, "model._target_": target}, {"test/auc": 0.9})
    labels = [g.label for g in compare([tmp_path], Options()).groups]
    assert len(set(labels)) == 4
    assert {"model=a.Net, limit_train_batches=1.0", "model=b.Net, limit_train_batches=1"} <= set(labels)


def test_many_keys_name_as_many_as_tell_groups_apart(tmp_path: Path) -> None:
    keys = [f"loss.k{i}" for i in range(9)]
    for i in range(9):
        write_run(tmp_path / str(i), {key: int(key == keys[i]) for key in keys}, {"test/auc": 0.9})
    groups = compare([tmp_path], Options()).groups
    assert len({g.label for g in groups}) == len(groups) == 9


@pytest.mark.parametrize("last", [1, 2, 3, 7, 40])
def test_an_axis_of_epochs_has_whole_numbers(last: int) -> None:
    assert all(value == int(value) for value in ticks(0.0, last, 5, whole=True))
    assert len(ticks(0.0, last, 5, whole=True)) >= 2


def test_two_seeds_have_lines_and_no_band(tmp_path: Path) -> None:
    for seed in range(3):
        rows = [{"epoch": e, "step": e, "images": e, "val/auc": 0.5 + 0.1 * seed + 0.1 * e} for e in range(3)]
        write_run(tmp_path / str(seed), {"seed": seed}, {"test/auc": 0.9}, rows=rows)
        figure = charts.curves(compare([tmp_path], Options()), "val/auc")[0]
        assert figure.drawing.count('class="band"') == (seed == 2)
        assert figure.drawing.count('class="thin"') == seed + 1


def test_a_forest_has_every_difference_by_size_over_the_margin(tmp_path: Path) -> None:
    shifts = {0.1: 0.004, 0.2: -0.02, 0.3: 0.03}
    for weight, shift in {0.0: 0.0, **shifts}.items():
        for seed in range(4):
            settings = {KOLEO: weight, "seed": seed}
            metrics = {"test/auc": 0.9 + shift + 0.001 * (seed % 2) * (weight > 0)}
            write_run(tmp_path / f"{weight}_{seed}", settings, metrics)
    found = compare([tmp_path], Options())
    (figure,) = forests(found)
    assert re.findall(r">([A-Z] − [A-Z])<", figure.drawing) == ["D − A", "B − A", "C − A"]
    squares = [float(x) + 3.5 for x in re.findall(r'<rect x="([\d.]+)"[^>]*class="square"', figure.drawing)]
    (margin,) = re.findall(r'<rect x="([\d.]+)" y="8" width="([\d.]+)"[^>]*class="margin"', figure.drawing)
    left, width = map(float, margin)
    means = sorted((d.mean for d in found.differences), reverse=True)
    zero, scale = left + width / 2, width / 0.01  # pixels a unit, of a margin of 0.005 either way
    assert squares == pytest.approx([zero + scale * mean for mean in means], abs=0.15)
    for d in found.differences:
        assert difference_text(d) in figure.drawing
    assert [text for _, text in figure.legend] == [f"{g.letter}: {g.label}" for g in found.groups]
