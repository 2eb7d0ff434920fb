"""A study from its plan to its page, as a user runs it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from support.plans import claim, written
from support.processes import Cli

from siamese.training.precision import processor

WORDS = [
    "data=digits",
    "model=conv_small",
    "model.width=4",
    "model.embedding_dim=8",
    "data.images_per_class=20",
    "trainer.max_epochs=1",
    "figures.draw=false",
    "evaluation.resamples=0",
    "device=cpu",
]
ARMS = {
    "triplet": ["loss=triplet"],
    "koleo": ["loss=triplet_koleo"],
    "longer": ["loss=triplet", "trainer.max_epochs=2"],
}
CLAIMS = {
    "koleo": claim("triplet", ["koleo"], 3, metrics={"test/auc": "HIGHER"}),
    "longer": claim("triplet", ["longer"], 2, metrics={"test/auc": "HIGHER"}),
}


def sweep(train_cli: Cli, study: Path, out: Path, *words: str) -> str:
    done = train_cli(
        "study=accumulation", f"study.plan={study}/plan.yaml", f"hydra.sweep.dir={out}", "sweep.isolate=false", *words
    )
    return str(done.stdout)


@pytest.mark.slow
def test_a_study_from_plan_to_page(train_cli: Cli, cli: Cli, tmp_path: Path) -> None:
    study, out = (
        written(tmp_path / "study", words=WORDS, arms=ARMS, claims=CLAIMS, noise=["koleo", "triplet"]),
        tmp_path / "out",
    )
    sweep(train_cli, study, out, "study.seeds=1", "study.missing=true")  # before there is a runs.csv: all of them
    first = cli("scripts/study.py", study, "--collect", out, "--keep").stdout
    assert "missing (5): triplet seed 8; koleo seed 8; longer seed 8" in first
    assert "3 of 8 planned runs" in first
    assert "no verdict: one seed is a description" in first

    elsewhere = tmp_path / "elsewhere"
    sweep(train_cli, study, elsewhere, "study.missing=true", "study.seeds=2", "study.claims=[longer]")
    assert {run.name.split("-")[1] for run in elsewhere.glob("arm-*")} == {"triplet_seed", "longer_seed"}
    assert {run.name.split("-")[2] for run in elsewhere.glob("arm-*")} == {"8"}  # seed 7 has its rows
    both = cli("scripts/study.py", study, "--collect", elsewhere, "--keep").stdout
    assert "missing (3): koleo seed 8; triplet seed 9; koleo seed 9" in both
    assert "5 of 8 planned runs" in both
    done = train_cli(
        "study=accumulation",
        f"study.plan={study}/plan.yaml",
        "study.missing=true",
        "study.seeds=1",
        f"hydra.sweep.dir={elsewhere}",
        check=False,
    )
    assert (done.returncode, "runs.csv has every run that is asked for" in done.stderr) == (2, True)

    assert "finished before: arm=triplet seed=7" in sweep(train_cli, study, out)
    train_cli("data=digits", *WORDS, "seed=7", f"hydra.run.dir={out / 'stranger'}")
    done = cli("scripts/study.py", study, "--collect", out)
    assert "outside the plan (1): stranger (None, seed 7)" in done.stdout
    assert "8 of 8 planned runs" in done.stdout
    with (study / "runs.csv").open() as file:
        rows = {(row["arm"], row["seed"]): row for row in csv.DictReader(file)}
    assert set(rows) == {(a, str(s)) for a in ARMS for s in (7, 8, 9)} - {("longer", "9")}
    for run in out.glob("arm-*"):
        config = (run / "config.resolved.yaml").read_text()
        arm, seed = run.name.split("_seed-")[0].removeprefix("arm-"), run.name.split("_seed-")[1].partition("-")[0]
        summary = json.loads((run / "summary.json").read_text())
        assert float(rows[arm, seed]["test/auc"]) == summary["test/auc"]["value"]
        assert f"digest: {rows[arm, seed]['plan']}" in config.replace("'", "").replace('"', "")
        assert ("max_epochs: 2" in config) == (arm == "longer")

    files = {name: (study / name).read_bytes() for name in ("tests.csv", "table.md", "report.html")}
    shutil.rmtree(study / "figures")
    again = cli("scripts/compare.py", study)  # of the rows alone
    assert again.stdout.partition("written to")[0] in done.stdout
    assert files == {name: (study / name).read_bytes() for name in files}
    assert (study / "figures" / "claim_koleo.svg").exists()
    assert "What would change it" in files["report.html"].decode()

    page = tmp_path / "page.md"
    assert "expected the lines" in cli("scripts/study.py", study, "--page", study / "table.md", check=False).stderr
    (tmp_path / "page").mkdir()
    for name in ("mine.png", "claim_gone.svg"):
        (tmp_path / "page" / name).touch()
    page.write_text("Before.\n\n<!-- study: begin -->\nold\n<!-- study: end -->\n\nAfter.\n")
    cli("scripts/study.py", study, "--page", page, "--paper")
    assert page.read_text().split("<!-- study: begin -->")[1].split("<!-- study: end -->")[0].strip() == (
        files["table.md"].decode().strip().replace("(figures/", "(page/")
    )
    for drawn in ("overview.svg", "claim_koleo.svg"):  # of two seeds nothing is drawn
        assert (tmp_path / "page" / drawn).read_bytes() == (study / "figures" / drawn).read_bytes()
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"overview.svg", "claim_koleo.svg", "mine.png"}
    (tmp_path / "suffixless").write_text(page.read_text())
    assert (
        "expected a page with a suffix"
        in cli("scripts/study.py", study, "--page", tmp_path / "suffixless", check=False).stderr
    )
    assert set(re.findall(r"\((page/\S+)\)", page.read_text())) == {"page/claim_koleo.svg"}
    assert page.read_text().startswith("Before.")
    assert page.read_text().endswith("After.\n")
    assert {path.suffix for path in (study / "figures").glob("overview.*")} == {".svg", ".png", ".pdf"}

    sweep(train_cli, study, tmp_path / "repeated", "study.seeds=1", "study.claims=[longer]")
    same = cli("scripts/study.py", study, "--repeat", tmp_path / "repeated").stdout
    assert "2 of 2 runs are bit for bit those of the study" in same
    text = (study / "runs.csv").read_text()
    value = rows["longer", "7"]["test/auc"]
    (study / "runs.csv").write_text(text.replace(value, "0.125", 1))
    other = cli("scripts/study.py", study, "--repeat", tmp_path / "repeated").stdout
    assert f"test/auc is farthest, {float(value)!r} for 0.125" in other
    assert "1 of 2 runs are bit for bit" in other

    unsaid = ("figures.draw=false", "device=cpu")
    for row in rows.values():  # as the sweep was asked for it, and nothing of this machine but the device, by its name
        assert row["overrides"].split() == [
            *(w for w in WORDS if w not in unsaid and w.partition("=")[0] not in str(ARMS[row["arm"]])),
            *ARMS[row["arm"]],
        ]
        assert row["device"] == f"{processor()} 32-true"
    sweep(train_cli, study, tmp_path / "otherwise", "study.claims=[longer]")
    told = tmp_path / "otherwise" / "sweep.json"
    told.write_text(told.read_text().replace('"loss=triplet"', '"loss=supcon"', 1))
    done = cli("scripts/study.py", study, "--collect", tmp_path / "otherwise", check=False)
    assert "the runs of an arm differ by their seed alone" in done.stderr
    assert done.returncode == 1

    pilot = tmp_path / "pilot"
    sweep(train_cli, study, pilot, "study.pilot=true", "study.claims=[longer]")
    refused = cli("scripts/study.py", study, "--collect", pilot, check=False).stderr
    assert "there are 4 outside it (--pilot reads those of its pilot)" in refused
    before = (study / "runs.csv").read_bytes()
    said = cli("scripts/study.py", study, "--pilot", pilot).stdout
    assert "the pilot of small: seeds 100, 101\n" in said
    assert "missing (2): koleo seed 100; koleo seed 101" in said
    assert "longer, 2 seeds planned" in said
    assert "not to be told from 2 of its seeds; a pilot takes 3" in said
    assert (study / "runs.csv").read_bytes() == before

    with (study / "plan.yaml").open("a") as file:
        file.write("# another thought\n")
    assert "The plan changed after runs had begun: 8 of them" in " ".join(cli("scripts/study.py", study).stdout.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["trainer.max_epochs=3", "study.plan=PLAN"],
            "trainer.max_epochs=3: .* sets trainer.max_epochs of its arm longer",
        ),
        (["seed=3", "study.plan=PLAN"], "seed=3: .* sets seed of its arm triplet"),
        (["study.plan=nowhere.yaml"], "nowhere.yaml: there is no such file in .*; expected the plan of a study"),
        (["study.plan=PLAN", "study.claims=[]"], r"study.claims=\[\]: no run is asked for; expected claims, or null"),
        (["study.plan=PLAN", "study.seeds=0"], "study.seeds=0: expected at least 1, or null for all"),
        (
            ["study.plan=PLAN", "study.claims=[kolo]"],
            "no claim kolo; expected some of koleo, longer; did you mean 'koleo'",
        ),
    ],
)
def test_a_study_that_is_refused_begins_nothing(words: list[str], says: str, train_cli: Cli, tmp_path: Path) -> None:
    study = written(tmp_path / "study", words=WORDS, arms=ARMS, claims=CLAIMS, noise=["koleo", "triplet"])
    asked = [word.replace("PLAN", f"{study}/plan.yaml") for word in words]
    done = train_cli("study=accumulation", f"hydra.sweep.dir={tmp_path / 'out'}", *asked, check=False)
    assert done.returncode == 2
    assert re.search(says, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_study_is_compared_alone_and_collected_or_repeated(cli: Cli, tmp_path: Path) -> None:
    study = written(tmp_path / "study", words=WORDS, arms=ARMS, claims=CLAIMS, noise=["koleo", "triplet"])
    (tmp_path / "empty").mkdir()
    for argv, says in {
        ("scripts/compare.py", study, tmp_path / "empty"): "a study is compared by its own plan",
        ("scripts/compare.py", tmp_path / "empty", study): "a study is compared by its own plan",
        ("scripts/compare.py", study, "--where", "seed=1"): "--where: a study is compared by its own plan",
        ("scripts/compare.py", study, "--out", tmp_path / "o"): "--out: a study is compared by its own plan",
        ("scripts/compare.py", study, "--strict"): "--strict: a study is compared by its own plan",
        ("scripts/compare.py", study): "runs.csv: there is none yet",
        ("scripts/study.py", study, "--collect", tmp_path / "empty"): "no complete run of",
        ("scripts/study.py", study, "--pilot", tmp_path / "empty"): "no complete run of the pilot of",
        ("scripts/study.py", study, "--collect", "a", "--repeat", "b"): "--collect and --repeat: expected one of them",
        ("scripts/study.py", study, "--pilot", "a", "--repeat", "b"): "--repeat and --pilot: expected one of them",
        ("scripts/study.py", tmp_path / "empty"): "plan.yaml: there is no such file",
    }.items():
        done = cli(*argv, check=False)
        assert done.returncode != 0
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
