"""The committed studies: what their pages say is what their rows say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.processes import ROOT

from siamese.study.plan import read_plan
from siamese.study.rows import read_rows
from siamese.study.verdicts import decide
from siamese.study.writing import BEGIN, END, as_markdown, comparisons_csv

STUDIES = sorted(path.parent for path in (ROOT / "studies").glob("*/runs.csv"))
NUMBER = r"[×+−]?\d[\d.,]*(?:e[−-]\d+)?"


def differences(text: str) -> list[str]:
    """Every difference with its interval that ``text`` gives."""
    return re.findall(rf"{NUMBER} \[{NUMBER}, {NUMBER}\]", " ".join(text.split()))


def page_of(study: Path) -> str:
    return (ROOT / "docs" / "studies" / f"{study.name}.md").read_text()


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_files_and_page_are_made_of_the_rows(study: Path) -> None:
    plan = read_plan(study)
    rows = read_rows(plan)
    decided = decide(plan, rows)
    assert (study / "tests.csv").read_text() == comparisons_csv(decided)
    table = as_markdown(plan, rows, decided)
    assert (study / "table.md").read_text() == table
    assert page_of(study).split(BEGIN)[1].split(END)[0].strip() == table.strip()
    assert {row.facts["plan"] for row in rows} == {plan.digest}


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_every_difference_in_the_text_is_in_the_tables(study: Path) -> None:
    before, _, rest = page_of(study).partition(BEGIN)
    table, _, after = rest.partition(END)
    quoted = differences(f"{before} {after}")
    assert quoted
    assert [one for one in quoted if one not in table] == []


def test_every_difference_in_the_readme_is_in_a_table() -> None:
    tables, quoted = (
        [(study / "table.md").read_text() for study in STUDIES],
        differences((ROOT / "README.md").read_text()),
    )
    assert quoted
    assert [one for one in quoted if not any(one in table for table in tables)] == []


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_runs_of_one_seed_had_the_same_images(study: Path) -> None:
    plan = read_plan(study)
    known = {row.place: row.facts for row in read_rows(plan)}
    compared = 0
    for claim in plan.claims:
        arms = [side.arm for side in (claim.baseline, *claim.sides)]
        for seed in plan.seeds_of(arms[0]):
            found = [known[arm, seed] for arm in arms if (arm, seed) in known]
            compared += len(found) > 1
            if "vgg11" not in " ".join(arms):  # which is trained on fewer
                assert len({facts["data"] for facts in found}) <= 1, (claim.name, seed)
    assert compared
