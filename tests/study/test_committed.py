"""The committed studies: what their pages say is what their rows say."""

from __future__ import annotations

import re
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from support.processes import ROOT

from siamese.compare.standalone import standalone
from siamese.compare.wording import difference_text
from siamese.study.picture import forest, overview
from siamese.study.plan import Side
from siamese.study.reader import read_plan
from siamese.study.rows import read_rows
from siamese.study.verdicts import Answer, decide
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
    assert (study / "table.md").read_text() == as_markdown(plan, rows, decided)
    table = as_markdown(plan, rows, decided, study.name)
    assert page_of(study).split(BEGIN)[1].split(END)[0].strip() == table.strip()
    assert {row.facts["plan"] for row in rows} == {plan.digest}
    beside = ROOT / "docs" / "studies" / study.name
    drawn = {f"{f.slug}.svg": standalone(f) for f in (overview(plan, decided), *map(forest, decided)) if f is not None}
    for folder in (study / "figures", beside):
        assert {path.name: path.read_text() for path in folder.iterdir()} == drawn


def test_every_number_beside_an_interval_in_the_page_of_the_article_is_of_its_rows() -> None:
    """Of the table of KoLeo's weights: mean and standard deviation of either AUC, and the mean effective rank."""
    rows = read_rows(read_plan(ROOT / "studies" / "article"))
    lines = page_of(ROOT / "studies" / "article").split("## Weights of KoLeo")[1].split("\n\n*Mean")[0].splitlines()
    found = {cells[1]: cells[3:6] for line in lines if (cells := [c.strip() for c in line.split("|")])[1:2]}
    for weight in ("1.0", "0.5", "0.1", "0.01", "0.001", "none"):
        arm = "triplet" if weight == "none" else f"koleo_{weight}"
        own = [row.measures for row in rows if row.facts["arm"] == arm]
        assert len(own) == 5
        val, test = ([m[f"{part}/auc"] for m in own] for part in ("val", "test"))
        texts = [f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}" for values in (val, test)]
        assert found[weight] == [*texts, f"{statistics.fmean(m['test/effective_rank'] for m in own):.1f}"]


def test_the_gradients_through_training_are_of_their_rows() -> None:
    study = ROOT / "studies" / "gradients"
    rows = read_rows(read_plan(study))
    text = page_of(study)
    lowest = {}
    for name, arm in {"GroupNorm": "groupnorm", "BatchNorm": "batchnorm", "VGG11": "vgg11"}.items():
        own = [row.measures for row in rows if row.facts["arm"] == f"gradient_{arm}_koleo"]
        assert len(own) == 10
        for words, measure, places in (("cosine", "cosine", 4), ("ratio of lengths", "norm_ratio", 3)):
            epochs = [[m.get(f"train/gradient_{measure}/epoch_{epoch}") for m in own] for epoch in range(1, 7)]
            means = [f"{statistics.fmean(e):.{places}f}" if None not in e else "" for e in epochs]  # type: ignore[arg-type]
            assert f"| {words}, {name} | {' | '.join(means)} |".replace("  |", " |") in text.replace("  |", " |")
            if measure == "cosine":
                lowest[name] = min(value for e in epochs for value in e if value is not None)
    assert f"is {lowest['VGG11']:.3f}, in the first with VGG11" in " ".join(text.split())
    assert f"and {min(lowest['GroupNorm'], lowest['BatchNorm']):.3f} with the small networks" in " ".join(text.split())


def test_what_was_not_planned_is_of_the_rows_too() -> None:
    """Memory accumulation against the large batch, of which the page of accumulation says that it was not planned."""
    study = ROOT / "studies" / "accumulation"
    plan = read_plan(study)
    (memory,) = (claim for claim in plan.claims if claim.name == "memory")
    beside = replace(memory, baseline=Side("koleo_128x1"), family="not planned")
    ((found,),) = (one.comparisons for one in decide(replace(plan, claims=(beside,)), read_rows(plan)))
    mean, low, high = re.findall(r"×[\d.]+", difference_text(found.found))
    assert f"with {mean} ({low} to {high}; a comparison that was not planned)" in " ".join(page_of(study).split())


WORDS = ("no one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen").split()
WORDS += ["seventeen", "eighteen"]


def test_what_the_pages_count_is_what_there_is() -> None:
    plan = read_plan(ROOT / "studies" / "accumulation")
    rows = read_rows(plan)
    answers = [one.answer for one in decide(plan, rows)]
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"has its {WORDS[len(plan.claims)]} claims, each with a verdict, its plan and its {len(rows)} runs" in readme
    text = " ".join(page_of(ROOT / "studies" / "accumulation").split())
    assert f"{WORDS[answers.count(Answer.OPEN)].capitalize()} claims stay OPEN with all their seeds" in text
    assert f"All {len(rows)} runs were planned before the first" in text


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
