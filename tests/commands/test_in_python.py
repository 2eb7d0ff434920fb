"""siamese.train and siamese.open_run: the numbers and the errors of the command line, and nothing left behind."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.processes import ROOT, Cli

import siamese
from siamese.errors import ConfigError, RunError

QUICK = (
    "data=digits",
    "model=conv_small",
    "model.width=4",
    "device=cpu",
    "data.images_per_class=20",
    "data.batch_size=16",
    "trainer.max_epochs=2",
    "figures.draw=false",
)

# What a caller's process has that a run may change; argv[1:] are the run directories' folder and the words of a run.
CALLER = """
import hashlib, json, logging, os, pickle, random, signal, sys, threading, time, warnings
from pathlib import Path
import numpy as np
import torch
import siamese
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from siamese.paths import CONF

out, words = Path(sys.argv[1]), sys.argv[2:]
said = {}

def told(name, action):
    try:
        action()
    except BaseException as error:
        said[name] = [type(error).__name__, str(error)]

def state():
    drawn = (random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state().numpy())
    return {
        "drawn": hashlib.md5(pickle.dumps(drawn)).hexdigest(),
        "environment": dict(os.environ),
        "argv": sys.argv[:], "path": sys.path[:], "folder": os.getcwd(),
        "streams": [id(sys.stdout), id(sys.stderr)],
        "signals": [str(signal.getsignal(n)) for n in (1, 2, 10, 12, 15)],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "handlers": [id(handler) for handler in logging.getLogger().handlers],
        "levels": [logging.getLogger(name).level for name in (None, "pytorch_lightning", "siamese")],
        "warnings": [str(one) for one in warnings.filters],
        "torch": [
            torch.get_num_threads(), str(torch.get_default_dtype()), torch.get_float32_matmul_precision(),
            torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.is_anomaly_enabled(), torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic,
            torch.is_grad_enabled(),
        ],
        "hydra": [GlobalHydra.instance().is_initialized(), HydraConfig.initialized()],
        "holds": sorted(str(path) for path in __import__("siamese.runs.locks").runs.locks._locks),
    }

def interrupt():
    ends = time.monotonic() + 30
    while not (out / "interrupted" / "metrics.csv").exists():
        if time.monotonic() > ends:
            return
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)

siamese.train(*words, f"hydra.run.dir={out / 'one'}")  # imports what a run imports, once

initialize(version_base="1.3", config_path=None)
random.seed(5), np.random.seed(5), torch.manual_seed(5)
own = logging.FileHandler(out / "own.log", "w")
logging.getLogger().addHandler(own)
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
os.environ["PL_GLOBAL_SEED"] = "7"
signal.signal(signal.SIGTERM, lambda *_: None)
before = state()
watch = threading.Thread(target=interrupt)
told("bad", lambda: siamese.train(*words, "trainer.max_epoch=3"))
told("refused", lambda: siamese.train(*words, "callbacks.extra.own._target_=builtins.dict",
                                      f"hydra.run.dir={out / 'refused'}"))
after_bad = state()
watch.start()
told("interrupted", lambda: siamese.train(*words, "trainer.max_epochs=500", "trainer.detect_anomaly=true",
                                          f"hydra.run.dir={out / 'interrupted'}"))
watch.join()
after_interrupt = state()
told("diverged", lambda: siamese.train(*words, "optimizer.lr=1e30", "trainer.deterministic=true",
                                       f"hydra.run.dir={out / 'diverged'}"))
after_failure = state()
run = siamese.train(*words, f"hydra.run.dir={out / 'two'}")
logging.getLogger().warning("still mine")
(out / "said.json").write_text(json.dumps({
    "said": said, "auc": run.summary["test/auc"], "path": str(run.path), "before": before,
    "after": {"bad": after_bad, "interrupt": after_interrupt, "failure": after_failure, "success": state()},
}))
"""


@pytest.fixture(scope="module")
def called(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("called")
    (out / "caller.py").write_text(CALLER)
    cli(out / "caller.py", out, *QUICK)
    return out, json.loads((out / "said.json").read_text())


@pytest.fixture(scope="module")
def commanded(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("commanded") / "run"
    train_cli(*QUICK, f"hydra.run.dir={out}")
    return out


def numbers(run: Path) -> Any:
    """All that was measured, to the last bit; what a clock says is left out."""
    with open(run / "metrics.csv") as file:
        rows = [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]
    return rows, json.loads((run / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one", "two"])
def test_a_call_gives_the_numbers_of_the_command(
    called: tuple[Path, dict[str, Any]], commanded: Path, name: str
) -> None:
    assert numbers(called[0] / name) == numbers(commanded)
    files, expected = ({file.relative_to(run) for file in run.rglob("*")} for run in (called[0] / name, commanded))
    assert files == expected
    argv = json.loads((called[0] / name / "manifest.json").read_text())["argv"]
    assert argv[1:-1] == json.loads((commanded / "manifest.json").read_text())["argv"][1:-1]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["bad", "interrupt", "failure", "success"])
def test_a_call_leaves_its_process_as_it_was(called: tuple[Path, dict[str, Any]], ending: str) -> None:
    before, after = called[1]["before"], called[1]["after"][ending]
    assert len(before) == 14
    assert {name: after[name] for name in before if after[name] != before[name]} == {}, "left behind"
    assert before["torch"][1] == "torch.float64"


@pytest.mark.slow
def test_what_ends_a_call_is_an_exception(called: tuple[Path, dict[str, Any]]) -> None:
    out, found = called
    assert found["said"]["bad"] == [
        "ConfigError",
        "unknown key 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?",
    ]
    assert found["said"]["refused"][0] == "ConfigError"
    assert found["said"]["interrupted"] == ["KeyboardInterrupt", ""]
    assert found["said"]["diverged"][0] == "RunError"
    assert json.loads((out / "interrupted" / "status.json").read_text())["state"] == "interrupted"
    assert json.loads((out / "diverged" / "status.json").read_text())["state"] == "failed"
    assert (out / "own.log").read_text() == "still mine\n"  # the caller's own handler was neither used nor closed
    assert found["path"] == str(out / "two")
    assert found["auc"] == json.loads((out / "two" / "summary.json").read_text())["test/auc"]["value"]


@pytest.mark.parametrize(
    "words",
    [
        ["loss=triplett"],
        ["trainer.max_epochs=-1"],
        ["seed=0,1"],
        ["model=null"],
        ["epochs=3"],
        ["data=image_folder", "data.root=/nowhere"],
        ["resume=/nowhere"],
        ["loss"],
    ],
)
def test_bad_words_are_refused_as_the_command_refuses_them(train_cli: Cli, words: list[str], tmp_path: Path) -> None:
    words = [*words, f"hydra.run.dir={tmp_path / 'run'}"]
    said = train_cli(*words, check=False)
    assert said.returncode == 2
    with pytest.raises(ConfigError) as refused:
        siamese.train(*words)
    assert said.stderr == f"error: {refused.value}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "seed=0,1"], r"^'-m': .*use the command line \(.*train.* -m \.\.\.\)$"),
        (["--help"], "^'--help': siamese.train takes no flags"),
        (["--config-dir=DIR"], "expected config_dir=DIR"),
        (["sweep=losses"], r"^hydra.mode=MULTIRUN: .* -m \.\.\.\)$"),
        ([3], "^3: expected GROUP=OPTION or KEY=VALUE, one text each, found int$"),
        (["data=digits", "device=cpu_ddp"], "^device.devices=2: siamese.train trains on one device"),
    ],
)
def test_what_only_the_command_line_does_is_refused(words: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        siamese.train(*words)


def test_options_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        siamese.train("data=digits", config_dir=tmp_path / "nowhere")
    (tmp_path / "loss").mkdir()
    (tmp_path / "loss" / "own.yaml").write_text("_target_: siamese.losses.Triplet\nmargin: 0.4\n")
    with pytest.raises(ConfigError, match=r"trainer.max_epochs=-1"):  # the option is found, and then this is not
        siamese.train("data=digits", "loss=own", "trainer.max_epochs=-1", config_dir=tmp_path)


@pytest.mark.slow
def test_an_opened_run(commanded: Path) -> None:
    run = siamese.open_run(commanded)
    summary = json.loads((commanded / "summary.json").read_text())
    assert run.summary == {name: entry["value"] for name, entry in summary.items()}
    with open(commanded / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    found = run.metrics if isinstance(run.metrics, list) else run.metrics.to_dict("records")
    assert [row["val/auc"] for row in found] == [float(row["val/auc"]) for row in rows]
    assert [row["epoch"] for row in found] == [0, 1, 2]
    assert run.config["trainer.max_epochs"] == 2
    with np.load(commanded / "arrays" / "test.npz") as arrays:
        assert np.array_equal(run.arrays["test"]["embeddings"], arrays["embeddings"])
        assert set(run.arrays["test"]) == set(arrays.files)
    assert set(run.arrays) == {file.stem for file in (commanded / "arrays").iterdir()}
    assert "tset" not in run.arrays
    with pytest.raises(KeyError, match="did you mean 'test'"):
        run.arrays["tset"]


@pytest.mark.slow
def test_figures_are_found_and_damage_is_said(commanded: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(commanded, tmp_path / "copy"))
    (copy / "figures").mkdir(exist_ok=True)
    (copy / "figures" / "roc.svg").write_text("<svg/>")
    (copy / "metrics.csv").write_text("epoch,val/auc\nzero,1\n")
    run = siamese.open_run(str(copy))
    assert run.figures["roc"] == copy / "figures" / "roc.svg"
    with pytest.raises(RunError, match=r"metrics\.csv: line 2: epoch: expected a whole number"):
        _ = run.metrics
    (copy / "status.json").write_text('{"state": "failed", "error": "no luck"}')
    with pytest.raises(RunError, match=r"copy: failed, no luck$"):
        siamese.open_run(copy)


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "first_run").mkdir()
    with pytest.raises(ConfigError, match=r"first_rum: no such directory; .* did you mean 'first_run'"):
        siamese.open_run(tmp_path / "first_rum")
    with pytest.raises(ConfigError, match=r"first_run: not a run directory; expected manifest.json"):
        siamese.open_run(tmp_path / "first_run")


def test_importing_the_package_is_light() -> None:
    code = "import siamese, sys; siamese.errors; print(*{'torch', 'hydra', 'numpy', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    code = "import siamese, sys; siamese.open_run('docs')"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "docs: not a run directory" in done.stderr
    assert " siamese.runs.opened" in done.stderr
    assert "| torch" not in done.stderr
