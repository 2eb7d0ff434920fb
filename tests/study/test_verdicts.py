"""What rows say of claims, beside the same worked out by scipy and by hand."""

from __future__ import annotations

import io
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support.plans import claim, content, written

from siamese.compare.statistics import power_to_detect, power_to_equate
from siamese.errors import RunError
from siamese.study import terminal
from siamese.study.picture import forest
from siamese.study.plan import Plan
from siamese.study.reader import Reader, read_plan
from siamese.study.rows import FACTS, Row, read_rows, write_rows
from siamese.study.verdicts import Answer, Decided, decide
from siamese.study.writing import notes

ITSELF = {"arm": "c", "metric": "test/auc"}  # no spread, no verdict
Values = dict[str, dict[str, list[float]]]  # by arm and measure, a value a seed


def rows_of(values: Values, first: int = 7) -> list[Row]:
    out = []
    for arm, measures in values.items():
        for i in range(max(map(len, measures.values()))):
            facts = dict.fromkeys(FACTS, "x") | {"arm": arm, "seed": str(first + i), "seconds": "1.0"}
            out.append(Row(facts, {name: own[i] for name, own in measures.items() if i < len(own)}))
    return out


def decided(values: Values, **more: Any) -> dict[str, Decided]:
    plan: Plan = Reader(Path("plan.yaml")).plan(content(**more), "x")
    return {one.claim.name: one for one in decide(plan, rows_of(values))}


def noisy(mean: float, by: float = 1e-3, n: int = 8, seed: int = 0) -> list[float]:
    return list(mean + by * np.random.default_rng(seed).standard_normal(n))


@pytest.mark.parametrize(
    ("expected", "shift", "by", "answer"),
    [
        ("HIGHER", 0.05, 1e-3, Answer.HOLDS),
        ("HIGHER", -0.05, 1e-3, Answer.FAILS),
        ("HIGHER", 0.001, 1e-3, Answer.FAILS),  # within the margin
        ("HIGHER", 0.01, 0.1, Answer.OPEN),
        ("LOWER", -0.05, 1e-3, Answer.HOLDS),
        ("LOWER", 0.05, 1e-3, Answer.FAILS),
        ("DIFFERENT", -0.05, 1e-3, Answer.HOLDS),
        ("DIFFERENT", 0.0, 1e-3, Answer.FAILS),
        ("EQUIVALENT", 0.0, 1e-3, Answer.HOLDS),
        ("EQUIVALENT", 0.005, 1e-3, Answer.HOLDS),  # different, but negligible
        ("EQUIVALENT", 0.05, 1e-3, Answer.FAILS),
        ("EQUIVALENT", 0.0, 0.1, Answer.OPEN),
    ],
)
def test_the_answer_is_what_the_differences_say_of_what_was_expected(
    expected: str, shift: float, by: float, answer: Answer
) -> None:
    values = {"a": {"test/auc": noisy(0.7)}, "b": {"test/auc": noisy(0.7 + shift, by, seed=1)}}
    found = decided(values, claims={"x": claim("a", ["b"], 8, metrics={"test/auc": expected})})["x"]
    assert (found.answer, found.seeds) == (answer, 8)


def test_a_claim_fails_by_one_comparison_and_holds_by_all_of_them() -> None:
    values = {
        arm: {"test/auc": noisy(mean, seed=i)} for i, (arm, mean) in enumerate({"a": 0.7, "b": 0.8, "c": 0.6}.items())
    }
    claims = {"both": claim("a", ["b", "c"], 8), "one": claim("a", ["b"], 8), "none": claim(ITSELF, ["c"], 8)}
    found = decided(values, claims=claims)
    assert [found[name].answer for name in claims] == [Answer.FAILS, Answer.HOLDS, Answer.OPEN]
    del values["c"]
    assert decided(values, claims=claims)["both"].answer is Answer.OPEN


def test_an_answer_before_all_seeds_are_there_is_one_so_far() -> None:
    values = {"a": {"test/auc": noisy(0.7)}, "b": {"test/auc": noisy(0.8, seed=1)}, "c": {"test/auc": noisy(0.7, 0.1)}}
    claims = {"whole": claim("a", ["b"], 8), "early": claim("a", ["b"], 9), "open": claim("a", ["c"], 9)}
    assert [one.says for one in decided(values, claims=claims).values()] == ["HOLDS", "HOLDS so far", "OPEN"]


def test_p_is_adjusted_over_the_family_whichever_claims_it_is_spread_over() -> None:
    values = {
        "a": {"test/auc": noisy(0.7, 0.01), "test/effective_rank": noisy(20, 1, seed=3)},
        "b": {"test/auc": noisy(0.71, 0.01, seed=1), "test/effective_rank": noisy(22, 1, seed=4)},
        "c": {"test/auc": noisy(0.705, 0.01, seed=2)},
    }
    metrics = {"test/auc": "HIGHER", "test/effective_rank": "HIGHER"}
    claims = {
        "x": claim("a", ["b"], 8, metrics=metrics),
        "y": claim("a", ["c"], 8),
        "z": claim("b", ["c"], 8, family="z"),
    }
    found = decided(values, claims=claims)
    tests = [c.found for name in "xy" for c in found[name].comparisons]
    expected = [
        scipy.stats.ttest_rel(values["b"]["test/auc"], values["a"]["test/auc"]).pvalue,
        scipy.stats.ttest_1samp(np.log(np.divide(*(values[k]["test/effective_rank"] for k in "ba"))), 0).pvalue,
        scipy.stats.ttest_rel(values["c"]["test/auc"], values["a"]["test/auc"]).pvalue,
    ]
    assert [d.p_t for d in tests] == pytest.approx(expected)
    larger = [max(d.p_t or 0, d.p_sign_flip or 0) for d in tests]
    steps, adjusted = 0.0, {}
    for rank, i in enumerate(np.argsort(larger)):
        steps = max(steps, min(1.0, (3 - rank) * larger[i]))
        adjusted[i] = steps
    assert [d.p_holm for d in tests] == pytest.approx([adjusted[i] for i in range(3)])
    alone = found["z"].comparisons[0].found
    assert alone.p_holm == max(alone.p_t or 0, alone.p_sign_flip or 0)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["test/auc", "test/effective_rank"]))
@settings(max_examples=30)
def test_a_difference_of_effects_is_what_it_is_by_hand(seed: int, metric: str) -> None:
    draw = np.random.default_rng(seed).uniform(1, 3, (4, 6))
    values = {arm: {metric: list(row)} for arm, row in zip("abcd", draw, strict=True)}
    arms = {arm: [f"seed.{arm}=1"] for arm in "abcd"}
    one = claim({"arm": "a", "minus": "b"}, [{"arm": "c", "minus": "d"}], 6, metrics={metric: "DIFFERENT"})
    d = decided(values, arms=arms, claims={"x": one})["x"].comparisons[0].found
    a, b, c, e = np.log(draw) if metric == "test/effective_rank" else draw
    assert d.mean == pytest.approx(np.mean((c - e) - (a - b)), abs=1e-12)
    assert d.p_t == pytest.approx(scipy.stats.ttest_rel(c - e, a - b).pvalue)


def test_a_run_is_held_against_itself_and_seeds_without_a_partner_are_left_out() -> None:
    values = {"a": {"test/auc": noisy(0.7), "val/auc": noisy(0.8, seed=1)[:5]}}
    one = claim({"arm": "a", "metric": "test/auc"}, ["a"], 8, metrics={"val/auc": "HIGHER"})
    found = decided(values, claims={"x": one})["x"]
    expected = np.subtract(values["a"]["val/auc"], values["a"]["test/auc"][:5])
    assert found.comparisons[0].found.n == found.seeds == 5
    assert found.comparisons[0].found.mean == pytest.approx(expected.mean())


def test_the_noise_is_what_two_orders_of_sums_differ_by() -> None:
    values = {
        arm: {"test/auc": noisy(0.7, seed=i), "test/effective_rank": noisy(20, seed=9 + i)}
        for i, arm in enumerate("ab")
    }
    metrics = {"test/auc": "HIGHER", "test/effective_rank": "HIGHER"}
    found = decided(values, claims={"x": claim("a", ["b"], 8, metrics=metrics)})["x"].comparisons
    for c, scale in zip(found, (float, math.log), strict=True):
        one, other = ([scale(v) for v in values[arm][c.found.metric.name]] for arm in "ab")
        assert c.noise == pytest.approx(np.std(np.subtract(one, other), ddof=1))


def test_what_the_sides_of_a_pair_do_not_share_is_said() -> None:
    plan: Plan = Reader(Path("plan.yaml")).plan(content(), "x")
    rows = rows_of({arm: {"test/auc": noisy(0.7, n=3)} for arm in "abc"})
    assert notes(plan, rows) == ["9 of 10 planned runs."]

    def changed(arm: str, seed: str, **facts: str) -> list[Row]:
        mine = {"arm": arm, "seed": seed}
        return [Row({**row.facts, **facts}, row.measures) if row.facts.items() >= mine.items() else row for row in rows]

    assert notes(plan, changed("b", "8", data="y", device="cuda"))[1:] == [
        "first: the two sides differ in images (seed 8), device (seed 8)."
    ]
    assert notes(plan, changed("c", "9", packages="y"))[1:] == ["second: the two sides differ in packages (seed 9)."]
    assert notes(plan, [row for row in changed("b", "8", data="y") if row.place != ("a", 8)])[1:] == []  # no pair
    assert notes(plan, changed("a", "7", plan=""))[1:] == [
        "The plan changed after runs had begun: 1 of them are of none."
    ]


def test_a_pilot_says_how_many_seeds_each_comparison_takes() -> None:
    plan: Plan = Reader(Path("plan.yaml")).plan(content(), "x")
    one, other, third = noisy(0.7, n=3), noisy(0.7, 2e-2, n=3, seed=1), noisy(0.9, 1e-4, n=3, seed=2)
    rows = rows_of({"a": {"test/auc": one}, "b": {"test/auc": other}, "c": {"test/auc": third[:2]}}, first=100)
    console = Console(width=80, file=io.StringIO())
    terminal.show_pilot(plan, rows, decide(plan, rows), console)
    said = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    spread = float(np.std(np.subtract(other, one), ddof=1))
    n = 3
    while min(power_to_detect(n, 0.01, spread, 0.05), power_to_equate(n, 0.01, spread, 0.05)) < 0.8:
        n += 1
    assert n > 3
    assert said[0] == "the pilot of small: seeds 100, 101, 102"
    assert said[2:5] == ["first, 4 seeds planned", "  b against a, test/auc", f"    about {n} seeds"]
    assert said[-1] == "    not to be told from 2 of its seeds; a pilot takes 3"


def test_an_interval_that_leaves_the_picture_ends_in_an_arrow() -> None:
    def drawn(shift: float, by: float) -> list[str]:
        values = {"a": {"test/auc": noisy(0.7)}, "b": {"test/auc": noisy(0.7 + shift, by, seed=1)}}
        figure = forest(decided(values, claims={"x": claim("a", ["b"], 8)})["x"])
        assert figure is not None
        (path,) = re.findall(r'<path d="(M[^"]*)" class="whisker"', figure.drawing)
        return re.findall(r"M[^M]*", path)[1:]  # without the line

    assert [re.sub(r"[\d. ]+", "", end) for end in drawn(0.03, 1e-3)] == ["Mv", "Mv"]  # caps; the margin is 0.01
    assert [re.sub(r"[\d. ]+", "", end) for end in drawn(0.0, 2.0)] == ["MLL", "MLL"]
    (left, right) = drawn(0.0, 2.0)
    tips = [[float(x) for x in re.findall(r"[ML]([\d.]+) ", end)] for end in (left, right)]
    assert tips[0][1] < tips[0][0] < tips[1][0] < tips[1][1]
    assert [re.sub(r"[\d. ]+", "", end) for end in drawn(0.5, 1e-3)] == ["MLL"]  # all of it beyond


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_rows_are_read_back_to_the_last_bit(values: list[float]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plan = read_plan(written(Path(folder)))
        rows = rows_of({"a": {"test/auc": values[:4], "m": values[4:6]}, "b": {"test/auc": values[4:]}})
        write_rows(rows, Path(folder) / "runs.csv")
        assert sorted(read_rows(plan), key=lambda r: r.place) == rows


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace("b,7", "a,7"), "line 6: a with seed 7 is there twice"),
        (lambda text: text.replace("b,7", "d,7"), "line 6: d with seed 7 is not in the plan"),
        (lambda text: text.replace("b,7", "b,x"), "line 6: invalid literal"),
        (lambda text: text.replace("0.5", "inf"), "test/auc: expected a finite number, found inf"),
        (lambda text: text.replace("seconds", "minutes"), "line 2: expected arm, seed"),
    ],
)
def test_what_is_wrong_with_rows_is_one_line(change: Any, says: str, tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path))
    with pytest.raises(RunError, match="there is none yet"):
        read_rows(plan)
    write_rows(rows_of({arm: {"test/auc": [0.5, 0.25, 0.5, 0.5]} for arm in "ab"}), tmp_path / "runs.csv")
    (tmp_path / "runs.csv").write_text(change((tmp_path / "runs.csv").read_text()))
    with pytest.raises(RunError, match=says):
        read_rows(plan)
