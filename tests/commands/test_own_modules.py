"""Code of one's own, from a folder outside the project: the samples of docs/extending.md, from training to resuming,
evaluating and comparing."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from docs.pages import blocks
from support.processes import ROOT, Cli

PAGE = ROOT / "docs" / "extending.md"
OPTIONS = "data=colours augment=darken loss=cosine_hinge model=tiny batches=neighbours optimizer=heavy_ball "
OPTIONS += "scheduler=halving logger=lines"
NOTE = "+callbacks.extra.note._target_=mymod.Note +callbacks.extra.note.path=note.txt"
SHORT = "device=cpu trainer.max_epochs=2 model.width=4 figures.draw=false callbacks.progress_bar=false"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page describes."""
    folder = tmp_path_factory.mktemp("mine")
    lines, code = PAGE.read_text().splitlines(), []
    for block in blocks(PAGE):
        text = "\n".join(block.lines) + "\n"
        if block.language == "python":
            code.append(text)
        elif block.language == "yaml":
            named = re.search(r"In `([\w/]+\.yaml)`", lines[block.line - 4])
            assert named
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(text)
    (folder / "mymod.py").write_text("\n\n".join(code))
    return folder


@pytest.fixture(scope="module")
def run(mine: Path, cli: Cli) -> Path:
    """A run with everything of one's own."""
    words = f"--config-dir conf {OPTIONS} {NOTE} {SHORT} hydra.run.dir=run".split()
    done = cli("train.py", *words, cwd=mine)
    assert "resume=run trust=mymod trainer.max_epochs=4" in done.stdout
    return mine / "run"


def test_everything_is_ones_own(run: Path, mine: Path) -> None:
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert json.loads((run / "summary.json").read_text())["test/auc"]["value"] > 0.6
    assert (mine / "note.txt").read_text() == "12 steps\n"  # 2 epochs of 90 triplets, 16 at a time
    assert list((run / "lines").rglob("metrics.csv"))
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["data"]["source"] == "colours"
    assert manifest["data"]["classes"] == ["red", "green", "blue"]
    rates = [row["lr"] for row in csv.DictReader((run / "metrics.csv").open())]
    assert rates == ["0.05", "0.025", "0.0125"]


def test_a_run_is_gone_on_with_once_its_code_is_trusted(run: Path, mine: Path, cli: Cli) -> None:
    refused = cli("train.py", "resume=run", "trainer.max_epochs=3", cwd=mine, check=False)
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert "mymod." in line
    command = line.partition("to trust it: ")[2]
    assert command == "siamese-train resume=run trust=mymod"
    assert "epoch 3/3" in cli("train.py", *command.split()[1:], "trainer.max_epochs=3", cwd=mine).stdout
    added = cli("train.py", "--config-dir", "conf", "resume=run", "trust=mymod", "trainer.max_epochs=4", cwd=mine)
    assert "epoch 4/4" in added.stdout


def test_a_run_is_evaluated_once_its_code_is_trusted(run: Path, mine: Path, cli: Cli) -> None:
    refused = cli("scripts/evaluate.py", "run", cwd=mine, check=False)
    assert refused.returncode == 2
    command = refused.stderr.strip().partition("to trust it: ")[2]
    assert command == "siamese-evaluate run --trust mymod"
    for words in (command.split()[1:], ["run", "--trust", "mymod", "--config-dir", "conf", "--checkpoint", "last"]):
        assert "recall_at_1" in cli("scripts/evaluate.py", *words, cwd=mine).stdout


def test_runs_are_compared_without_trust(run: Path, mine: Path, cli: Cli) -> None:
    words = f"--config-dir conf data=colours model._target_=mymod.TinyNet +model.width=4 {SHORT} hydra.run.dir=other"
    cli("train.py", *words.replace(" model.width=4 ", " ").split(), cwd=mine)
    recorded = yaml.safe_load((mine / "other" / "config.resolved.yaml").read_text())["model"]
    assert recorded == {"_target_": "mymod.TinyNet", "width": 4}
    done = cli("scripts/compare.py", "run", "other", cwd=mine)
    assert "mymod" not in done.stderr
    assert (mine / "run.comparison" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("model._target_=mymod.TinyNet +model.widht=4", "'model.widht'; did you mean 'model.width'?"),
        ("optimizer=heavy_ball +optimizer.momentum=fast", "optimizer.momentum=fast: expected float, found str"),
        ("data.source._target_=mymod.CosineHinge", "expected a function that returns siamese.data.LabelledImages"),
        ("batches._target_=mymod.TinyNet", "expected a siamese.data.batches.Kind, found TinyNet"),
        ("model._target_=mymod.halving", "model.optimizer: mymod.halving needs it"),
        ("model._target_=mymod.CosineHinge", "expected it to make [N, D] or [N, D, h, w]"),
        ("+callbacks.extra.x._target_=mymod.TinyNet", "expected a Lightning callback, found TinyNet"),
    ],
)
def test_what_is_wrong_with_it_is_one_line(mine: Path, cli: Cli, words: str, says: str) -> None:
    line = f"--config-dir conf data=colours {SHORT} hydra.run.dir=wrong {words}".replace(" model.width=4 ", " ")
    done = cli("train.py", *line.split(), cwd=mine, check=False)
    assert done.returncode in (1, 2)
    assert says.replace("widht'; did", "widht': mymod.TinyNet takes width, embedding_dim; did") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_images_of_ones_own_measure_a_run_on_others(mine: Path, cli: Cli) -> None:
    words = f"data=digits data.images_per_class=20 model=conv_small {SHORT} hydra.run.dir=digits"
    cli("train.py", *words.split(), cwd=mine)
    done = cli("scripts/evaluate.py", "digits", "--config-dir", "conf", "--data", "colours", cwd=mine)
    assert "measuring 24 images of test" in done.stdout  # every fifth of 120
    (folder,) = (mine / "digits" / "evaluations").iterdir()
    assert json.loads((folder / "summary.json").read_text())["test/auc"]["value"] is not None
