"""plan.yaml: which runs it asks for, and what is wrong with one."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plans import claim, content, written
from support.processes import ROOT

from siamese.errors import ConfigError
from siamese.study.plan import Plan
from siamese.study.reader import Reader, read_plan


def test_whole_pairs_come_first(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path))
    runs = [("a", 7), ("b", 7), ("c", 7), ("a", 8), ("b", 8), ("c", 8), ("a", 9), ("b", 9), ("a", 10), ("b", 10)]
    assert plan.asked() == runs
    assert plan.asked(["second"]) == [("a", 7), ("c", 7), ("a", 8), ("c", 8), ("a", 9), ("a", 10)]
    assert plan.asked(["second"], 1) == [("a", 7), ("c", 7)]
    assert plan.asked(["first"], pilot=True) == [("a", 100), ("b", 100), ("a", 101), ("b", 101)]


PAIRS = st.permutations("abc").map(lambda arms: arms[:2])


@given(st.lists(st.builds(lambda arms, n: (*arms, n), PAIRS, st.integers(1, 9)), min_size=1, max_size=5))
def test_every_comparison_has_the_seeds_it_asks_for(claims: list[tuple[str, str, int]]) -> None:
    named = {f"c{i}": claim(one, [other], seeds) for i, (one, other, seeds) in enumerate(claims)}
    plan = Reader(Path("plan.yaml")).plan(content(claims=named), "digest")
    asked = plan.asked()
    assert len(asked) == len(set(asked))
    for one, other, seeds in claims:
        assert {(arm, 7 + s) for arm in (one, other) for s in range(seeds)} <= set(asked)
    for seed in {seed for _, seed in asked}:  # no seed begins before those before it are asked for
        first = next(i for i, (_, s) in enumerate(asked) if s == seed)
        assert all(s < seed for _, s in asked[:first])
    assert all(any(arm in pair[:2] for pair in claims) for arm, _ in asked)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"claims": {"x": claim("a", ["d"])}}, r"claims.x.arms: expected one of the arms.*, found d"),
        ({"claims": {"x": claim({"arm": "a", "less": "b"}, ["b"])}}, r"expected the name of an arm, or \{arm, minus"),
        ({"claims": {"x": claim("a", ["b"], metrics={"test/auc": "BETTER"})}}, "expected one of EQUIVALENT, DIFF"),
        ({"claims": {"x": claim("a", ["b"], metrics={"test/nmi": "EQUIVALENT"})}}, "found test/nmi without a margin"),
        ({"claims": {"x": {"says": "so"}}}, "claims.x: baseline: expected an arm, found nothing"),
        ({"claims": {"x": claim("a", ["b"], sedes=3)}}, "found sedes; did you mean 'seeds'"),
        ({"arms": {"a": ["x=1"], "b": ["x=1"], "c": ["y=1"]}}, "arms.a: expected arms that differ, found is the arm b"),
        ({"arms": {"a": "x=1"}}, "arms.a: expected a list of overrides"),
        ({"pilot": [8]}, "pilot: expected seeds that no verdict is made of, found 8"),
        ({"first_seed": -1}, "expected seeds, from 0, found -1"),
        ({"margins": [{"metric": "auc"}]}, "margins: expected {metric: PATTERN"),
        ({"noise": ["a"]}, "noise: expected two arms"),
        ({"noise": ["a", "a"]}, "noise: expected two arms"),
        ({"noise": [["a"], ["b"]]}, r"noise: expected one of the arms, found \['a'\]"),
        ({"arms": {}}, "the plan: arms: expected at least one, found none"),
        ({"claims": {}}, "the plan: claims: expected at least one, found none"),
        ({"arms": {"1e-3": ["x=1"]}}, "arms: expected a name of letters, .*, found 1e-3"),
        ({"arms": {"null": ["x=1"]}}, "arms: expected a name of letters, .*, found null"),
        ({"claims": {"../out": claim("a", ["b"])}}, "claims: expected a name of letters, .*, found ../out"),
        (
            {"claims": {"x": claim({"arm": ["a"]}, ["b"])}},
            r"claims.x.baseline.arm: expected one of the arms, found \['a'",
        ),
        (
            {"claims": {"x": claim({"arm": "a", "metric": 3}, ["b"])}},
            "baseline.metric: expected the name of a measure",
        ),
        (
            {"claims": {"x": claim("a", ["b"], metrics={5: "HIGHER"})}},
            "x.metrics: expected the names of measures",
        ),
        ({"claims": {"x": claim("a", ["b"], metrics={})}}, "claims.x: metrics: expected at least one, found none"),
        ({"claims": {"x": claim("a", [])}}, "claims.x: arms: expected at least one, found none"),
        ({"claims": {"x": claim("a", ["b", "b"])}}, "claims.x.arms: expected sides that differ, found b twice"),
        ({"claims": {"x": claim("a", ["b", "a"])}}, "claims.x.arms: expected sides that differ, found a twice"),
        ({"claims": {"x": claim("a", ["b"], 0)}}, "claims.x: seeds: expected at least 1, found 0"),
        ({"claims": {"x": claim("a", ["b"], True)}}, "claims.x: seeds: expected a whole number, found True"),
        ({"words": [3]}, "words: expected a list of overrides"),
    ],
)
def test_what_is_wrong_with_a_plan_is_one_line_with_its_place(more: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        read_plan(written(tmp_path, **more))
    assert str(raised.value).startswith(f"{tmp_path / 'plan.yaml'}: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("[")
    with pytest.raises(ConfigError, match="could not be read as YAML"):
        read_plan(tmp_path)
    (tmp_path / "plan.yaml").write_text("[" * 3000)
    with pytest.raises(ConfigError, match="could not be read as YAML"):
        read_plan(tmp_path)
    text = (written(tmp_path / "twice") / "plan.yaml").read_text()
    (tmp_path / "twice" / "plan.yaml").write_text(f"{text}claims: {{}}\n")  # would take the place of those settled
    with pytest.raises(ConfigError, match="line 1: claims is there twice"):
        read_plan(tmp_path / "twice")
    with pytest.raises(ConfigError, match=f"nowhere.yaml: there is no such file in {Path.cwd()}"):
        read_plan(Path("nowhere.yaml"))
    (tmp_path / "plan.yaml").write_text("3")
    with pytest.raises(ConfigError, match="the plan: expected study, question"):
        read_plan(tmp_path)
    with pytest.raises(ConfigError, match=r"no claim frist; expected some of first, second.*first"):
        read_plan(written(tmp_path)).asked(["frist"])


def test_the_digest_is_of_every_byte(tmp_path: Path) -> None:
    before = read_plan(written(tmp_path)).digest
    with (tmp_path / "plan.yaml").open("a") as file:
        file.write(" ")
    assert read_plan(tmp_path).digest != before


def committed() -> list[Plan]:
    return [read_plan(path) for path in sorted((ROOT / "studies").glob("*/plan.yaml"))]


@pytest.mark.parametrize("plan", committed(), ids=lambda plan: plan.name)
def test_arms_of_the_committed_plans_differ_where_they_are_compared(plan: Plan) -> None:
    assert plan.claims
    for one in plan.claims:
        for side, metric in itertools.product(one.sides, one.metrics):
            assert (side.arms, side.metric or metric) != (one.baseline.arms, one.baseline.metric or metric)
