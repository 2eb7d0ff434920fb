"""Odd names, odd places, an odd environment: a run, or one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT, Cli

SMALL = (
    "data=digits data.images_per_class=20 model=conv_small model.width=4 device=cpu trainer.max_epochs=1 "
    "figures.draw=false callbacks.progress_bar=false"
).split()

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("name='[red]x[/red]'", "_red_x_red_"),
        ("name=$HOME", "_HOME"),
        ("name='a\nb'", "a_b"),
        ("name=a/b", "a_b"),
        (f"name={'x' * 250}", "x" * 60),
        ("name='Zürich'", "Zürich"),
    ],
)
def test_a_name_may_be_anything(name: str, folder: str, train_cli: Cli, tmp_path: Path) -> None:
    done = train_cli(*SMALL, name, cwd=tmp_path)
    (run,) = (tmp_path / "outputs").iterdir()
    assert run.name.partition("_")[2].partition("_")[2] == folder
    assert (run / "summary.json").exists()
    assert f"outputs/{run.name}" in done.stdout


@pytest.mark.parametrize(
    "environment",
    [{"HOME": ""}, {"TMPDIR": "/nowhere"}, {"LANG": "C", "LC_ALL": "C"}],
    ids=["no home", "no folder for temporary files", "plain ASCII"],
)
def test_an_odd_environment_is_no_obstacle(environment: dict[str, str], train_cli: Cli, tmp_path: Path) -> None:
    train_cli(*SMALL, f"hydra.run.dir={tmp_path / 'run'}", **environment)
    assert (tmp_path / "run" / "summary.json").exists()


def test_a_run_in_its_own_directory(train_cli: Cli, tmp_path: Path) -> None:
    train_cli(*SMALL, "hydra.run.dir=run", "hydra.job.chdir=true", cwd=tmp_path)
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("name=null", "name=null: expected str, found null"),
        ("name=[red]x[/red]", "'name=[red]x[/red]': expected GROUP=OPTION or KEY=VALUE"),
        (f"hydra.run.dir={'y' * 300}", "cannot be used (File name too long)"),
        ("hydra.run.dir=/proc/nowhere/run", "/proc/nowhere/run: cannot be written to"),
        ("hydra.run.dir=/dev/null/run", "/dev/null/run"),
        ("model.width=1000000", "this machine has"),
        ("model.embedding_dim=1e20", "model.embedding_dim=1e+20: expected int or null"),
        ("data.augment.crop_padding=1000000000", "expected at most data.image_size=32"),
        ("data.image_size=100000000", "expected a whole number from 1 to 4096"),
        ("data.image_size=4000", "1,797 images would take 86.3 GB; this machine has"),
        ("data.eval_batch_size=10000000000000000000000", "expected a number of at most 15 digits"),
        ("trainer=gpu", "expected device=cuda"),
        ("-m --cfg job", "Only one of"),
    ],
)
def test_what_cannot_be_is_one_line(words: str, says: str, train_cli: Cli, tmp_path: Path) -> None:
    place = [] if "hydra.run.dir" in words else ["hydra.run.dir=run"]
    done = train_cli(*SMALL, *place, *words.split(), cwd=tmp_path, check=False)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_a_working_directory_that_is_gone_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f"cd {tmp_path / 'gone'} && rmdir {tmp_path / 'gone'} && {sys.executable} {ROOT / 'train.py'} seed=1"
    done = subprocess.run(["bash", "-c", command], env=os.environ, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: the working directory is no longer there; change to another (cd)\n"


@pytest.mark.parametrize(
    ("file", "text", "words", "says"),
    [
        (
            "model/mine.yaml",
            "_target_: siamese.models.conv_small\nwidht: 4\n",
            "model=mine",
            "did you mean 'model.width'",
        ),
        ("model/mine.yaml", "width: 4\n", "model=mine", "model._target_: expected the dotted path"),
        ("model/mine.yaml", "_target_: [1]\n", "model=mine", "model._target_=[1]: cannot be imported"),
        ("model/mine.yaml", "- 1\n", "model=mine", "model"),
        ("model/mine.yaml", "a: {b\n", "model=mine", "mine.yaml"),
        ("data/mine.yaml", "source: digits\n", "data=mine", "data.source=digits: expected keys below it"),
        ("data/mine.yaml", "source: {_target_: no.such}\n", "data=mine", "data.source._target_=no.such: cannot be"),
        ("trainer/mine.yaml", "max_epoch: 4\n", "+trainer=mine", "did you mean 'trainer.max_epochs'"),
    ],
)
def test_a_wrong_option_of_ones_own_is_one_line(
    file: str, text: str, words: str, says: str, train_cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "conf" / file).parent.mkdir(parents=True)
    (tmp_path / "conf" / file).write_text(text)
    small = [word for word in SMALL if not word.startswith(words.partition("=")[0].lstrip("+"))]
    done = train_cli("--config-dir", "conf", *small, "hydra.run.dir=run", *words.split(), cwd=tmp_path, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert says in line
    assert not (tmp_path / "run").exists()
