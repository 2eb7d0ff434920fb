"""What each logger wrote of a run that was killed and resumed, read back with its own reader."""

from __future__ import annotations

import json
import logging
import math
import re
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from PIL import Image
from support.processes import ROOT, Cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from wandb.proto.wandb_internal_pb2 import Record

from siamese.config.schema import Config
from siamese.config.validate import flatten, validate
from siamese.data import load
from siamese.errors import ConfigError, RunError
from siamese.runs.directory import RunDirectory
from siamese.runs.locks import release
from siamese.runs.read import read_metrics
from siamese.training.check import Command, check, job_config
from siamese.training.loggers import MLflow, as_markdown, as_tag
from siamese.training.logs import Logs
from siamese.training.run import train

pytestmark = pytest.mark.slow

QUICK = (
    "data=digits",
    "model=conv_small",
    "model.width=4",
    "device=cpu",
    "data.images_per_class=30",
    "data.batch_size=16",
    "loss=triplet_koleo",
    "callbacks.progress_bar=false",
)


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    level = logging.getLogger("pytorch_lightning").level
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield
    logging.getLogger("pytorch_lightning").setLevel(level)


def composed(*words: str, run: Path | None = None) -> Any:
    """What Hydra composes of ``words``, as in a process whose run directory is ``run``."""
    config = compose("train", list(words), return_hydra_config=True)
    if run is not None:
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.runtime.output_dir = str(run)
        (run / ".hydra").mkdir(parents=True, exist_ok=True)
        if not any(word.startswith("resume=") for word in words):
            (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(words)))
    HydraConfig.instance().set_config(config)
    return job_config(config)


@dataclass
class Logged:
    """A run as its logger has it: ``{metric: [(step, value)]}``, parameters, and figures by name."""

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    classes: str = ""  # the table of them, in the logger's own words
    figures: dict[str, tuple[int, int]] = field(default_factory=dict)


def tensorboard(run: Path) -> Logged:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    logged = Logged({tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]})
    start = HParamsPluginData.FromString(
        events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    logged.params = {k: str(getattr(v, v.WhichOneof("kind"))) for k, v in start.hparams.items()}
    if "per_class/text_summary" in events.Tags()["tensors"]:
        logged.classes = events.Tensors("per_class/text_summary")[-1].tensor_proto.string_val[0].decode()
    for tag in events.Tags()["images"]:
        last = events.Images(tag)[-1]
        logged.figures[tag.removeprefix("figures/")] = (last.width, last.height)
    return logged


def mlflow(run: Path) -> Logged:
    client = MlflowClient(f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "siamese"]
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    identity, data = found.info.run_id, found.data
    history = {key: client.get_metric_history(identity, key) for key in data.metrics}
    logged = Logged({key: [(m.step, m.value) for m in points] for key, points in history.items()}, data.params)
    assert data.tags["resumed.trainer.max_epochs"] == "2"
    root = Path(found.info.artifact_uri.removeprefix("file://"))
    logged.classes = (root / "per_class.csv").read_text()
    for artifact in client.list_artifacts(identity, "figures"):
        path = Path(found.info.artifact_uri.removeprefix("file://")) / artifact.path
        with Image.open(path) as image:
            logged.figures[path.stem] = image.size
    return logged


def wandb_records(path: Path) -> Iterator[Record]:
    """The records of a .wandb file: LevelDB's log format after seven bytes, in blocks of 32 KiB."""
    content, at, pending = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if at + 7 + length > len(content):
            return  # still being written
        pending += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(pending)
            pending = b""


def whole(path: Path) -> list[Record]:
    """The records of a finished run; wandb's own process writes the last of them after finish() returns."""
    ends = time.monotonic() + 20
    while not (found := list(wandb_records(path))) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < ends, f"{path} does not end"
        time.sleep(0.05)
    return found


def wandb(run: Path) -> Logged:
    identity, logged = json.loads((run / "manifest.json").read_text())["run_id"], Logged()
    files = sorted((run / "wandb").glob(f"offline-run-*/run-{identity}.wandb"))
    assert len(files) == 2  # a file a process, of one run
    for file in files:
        for record in whole(file):
            for item in (*record.run.config.update, *record.config.update):
                logged.params[item.key] = str(json.loads(item.value_json))
            row = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            for key, value in row.items():
                if isinstance(value, (int, float)) and "trainer/global_step" in row:
                    logged.scalars.setdefault(key, []).append((row["trainer/global_step"], value))
                elif key == "per_class/path":
                    logged.classes = (file.parent / "files" / value).read_text()
                elif key.startswith("figures/") and key.endswith("/filenames"):
                    with Image.open(file.parent / "files" / value[0]) as image:
                        logged.figures[key.split("/")[1]] = image.size
    return logged


READERS = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}


ROWS = [
    {"epoch": 0, "step": 0, "lr": 0.1, "train/loss": None, "val/auc": 0.5},
    {"epoch": 1, "step": 10, "lr": 0.1, "train/loss": 2.0, "val/auc": 0.625},
    {"epoch": 2, "step": 20, "lr": 0.01, "train/loss": 1.5, "val/auc": 0.75},
]
SUMMARY = {
    "test/auc": {"value": 0.875, "epoch": 1},
    "val/auc": {"value": 0.625, "epoch": 1},
    "test/entropy": {"value": None, "epoch": 1},
    "train/loss": {"value": 1.5, "epoch": 2},
}


CLASSES = [
    {"part": "test", "class": "cat|dog", "images": "3", "ellipse_area": "0.125"},
    {"part": "test", "class": "fox", "images": "2", "ellipse_area": ""},
]


def session(config: Config, run: RunDirectory, rows: list[dict[str, Any]]) -> None:
    """A process that trains the epochs of ``rows`` and ends the run, as siamese.run does."""
    with Logs(config, run) as logs:
        logger = logs.open()
        assert logger is not None
        for row in rows:
            run.add_epoch(row)
            logger.log_metrics({k: v for k, v in row.items() if v is not None}, row["step"])
        logger.finalize("success")  # Lightning's, at the end of the training
        for name, size in (("wide", (4, 2)), ("high", (2, 3))):
            figure = Figure(figsize=size)
            logs.figure(name, run.figure(name, figure), figure)
        logs.conclude(SUMMARY, torch.zeros(5, 3, 8, 8, dtype=torch.uint8))


@pytest.fixture(scope="module", params=READERS)
def logged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Logged]:
    run = RunDirectory(tmp_path_factory.mktemp(request.param))
    words = (*QUICK, f"logger={request.param}")
    first = validate(composed(*words, "trainer.max_epochs=1"))
    run.begin(first, {})
    run.arrays("test", embeddings=np.eye(5, dtype=np.float32), labels=[0, 1, 0, 1, 0], class_names=["cat", "dog"])
    run.table("per_class", CLASSES)
    session(first, run, ROWS[:2])
    session(validate(composed(*words, "trainer.max_epochs=2")), run, ROWS[1:])  # epoch 1 again, after a kill
    release(run.path)
    return run.path, READERS[request.param](run.path)


def test_scalars_are_the_rows_of_metrics_csv_each_once(logged: tuple[Path, Logged]) -> None:
    run, found = logged
    for column in ("val/auc", "train/loss", "lr", "epoch"):
        expected = {row["step"]: row[column] for row in ROWS if row[column] is not None}
        points = found.scalars[column]
        assert dict(points) == pytest.approx(expected)
        assert len(points) == len(expected) or (run / "wandb").exists()  # a file a process


def test_the_summary_is_logged_at_the_step_of_its_checkpoint(logged: tuple[Path, Logged]) -> None:
    _, found = logged
    assert found.scalars["test/auc"][-1] == (10, 0.875)
    assert found.scalars["best/val/auc"][-1] == (10, 0.625)
    assert not {"test/entropy", "best/test/entropy", "best/train/loss"} & found.scalars.keys()


def test_classes_are_logged_as_a_table(logged: tuple[Path, Logged]) -> None:
    run, found = logged
    if (run / "tensorboard").exists():
        lines = ["| part | class | images | ellipse_area |", "| --- | --- | --- | --- |"]
        assert found.classes.splitlines() == [*lines, r"| test | cat\|dog | 3 | 0.125 |", "| test | fox | 2 |  |"]
    elif (run / "mlflow").exists():
        assert found.classes == (run / "per_class.csv").read_text()
    else:
        table = json.loads(found.classes)
        assert table["columns"] == list(CLASSES[0])
        assert table["data"][0] == ["test", "cat|dog", 3, 0.125]
        assert table["data"][1][:3] == ["test", "fox", 2]


def test_a_long_table_is_cut_and_says_so() -> None:
    lines = as_markdown([{"class": f"c{i}"} for i in range(5)], 3).splitlines()
    assert lines == ["| class |", "| --- |", "| c0 |", "| c1 |", "| c2 |", "", "and 2 more in per_class.csv"]


def test_parameters_are_the_flattened_configuration(logged: tuple[Path, Logged]) -> None:
    run, found = logged
    for key, value in flatten(yaml.safe_load((run / "config.resolved.yaml").read_text())).items():
        if value is not None and key != "trainer.max_epochs":  # that of the run, or of its resumption
            shown = found.params[key]
            assert shown == str(value) or float(shown) == float(value), key


def test_figures_are_logged_in_their_shape(logged: tuple[Path, Logged]) -> None:
    found = logged[1].figures
    assert {name: width / height for name, (width, height) in found.items()} == pytest.approx(
        {"wide": 2, "high": 2 / 3}
    )


def test_a_run_reaches_its_logger(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(Command(composed(*QUICK, "logger=tensorboard", "trainer.max_epochs=1", run=run)), run)
    found, rows = tensorboard(run), read_metrics(run / "metrics.csv")
    for column in ("val/auc", "val/koleo", "train/koleo", "lr"):
        expected = {int(row["step"]): float(row[column]) for row in rows if row[column]}
        assert dict(found.scalars[column]) == pytest.approx(expected, rel=1e-6)
    summary = json.loads((run / "summary.json").read_text())
    assert found.scalars["test/auc"] == [(int(rows[1]["step"]), pytest.approx(summary["test/auc"]["value"]))]
    assert set(found.figures) == {path.stem for path in (run / "figures").iterdir()} >= {"roc", "samples", "triplets"}
    arrays = np.load(run / "arrays" / "test.npz")
    (folder,) = (run / "tensorboard").glob("*/test")  # the projector's
    assert np.allclose(np.loadtxt(folder / "tensors.tsv"), arrays["embeddings"], atol=1e-6)
    names = arrays["class_names"][arrays["labels"]]
    assert (folder / "metadata.tsv").read_text().split() == names.tolist()
    source = load(validate(composed(*QUICK)).data, 0)
    place = {str(identity): i for i, identity in enumerate(source.ids)}
    with Image.open(folder / "sprite.png") as sprite:
        pixels, across = np.asarray(sprite.convert("RGB")), math.ceil(math.sqrt(len(names)))
    for i in (0, 7, len(names) - 1):
        top, left = i // across * 32, i % across * 32
        shown = source.images[place[str(arrays["ids"][i])]].numpy().transpose(1, 2, 0)
        assert np.abs(pixels[top : top + 32, left : left + 32].astype(int) - shown).max() <= 1


# -- failed, foreign, missing -----------------------------------------------------------------------


@pytest.fixture
def begun(tmp_path: Path) -> Iterator[RunDirectory]:
    run = RunDirectory(tmp_path)
    run.begin(validate(composed(*QUICK)), {})
    yield run
    release(tmp_path)


def test_a_failed_run_is_failed_in_mlflow(begun: RunDirectory) -> None:
    logs = Logs(validate(composed(*QUICK, "logger=mlflow")), begun)
    logger = logs.open()
    logs.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert isinstance(logger, MLflow)
    assert logger.experiment.get_run(logger.run_id).info.status == "FAILED"


@pytest.mark.parametrize("choice", READERS)
def test_what_a_logger_fails_at_in_the_end_is_one_line(
    begun: RunDirectory, choice: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("the server\nis gone")

    with Logs(validate(composed(*QUICK, f"logger={choice}")), begun) as logs:
        logger = logs.open()
        for method in ("log_figure", "log_metrics", "finalize"):
            monkeypatch.setattr(type(logger), method, fails)
        figure = Figure(figsize=(1, 1))
        for name in ("one", "other"):
            logs.figure(name, begun.figure(name, figure), figure)
        logs.conclude(SUMMARY, torch.zeros(5, 3, 8, 8, dtype=torch.uint8))
    (line,) = [record.getMessage() for record in caplog.records if record.name == "siamese.training.logs"]
    assert line.endswith(" failed (ConnectionError: the server is gone)")


def test_an_error_is_not_hidden_by_a_logger_that_fails_too(
    begun: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ConnectionError

    logs = Logs(validate(composed(*QUICK, "logger=tensorboard")), begun)
    monkeypatch.setattr(type(logs.open()), "close", fails)
    with pytest.raises(ZeroDivisionError), logs:
        raise ZeroDivisionError


def test_one_store_gathers_runs(begun: RunDirectory, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/all.db"
    words = (*QUICK, "logger=mlflow", f"logger.tracking_uri={store}", "logger.experiment_name=mine")
    with Logs(validate(composed(*words)), begun) as logs:
        logs.open()
    client = MlflowClient(store)
    (found,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert found.data.tags["siamese.run"] == str(begun.path)


def test_a_logger_of_lightning_gets_scalars_and_parameters(begun: RunDirectory, tmp_path: Path) -> None:
    words = (*QUICK, "logger._target_=pytorch_lightning.loggers.CSVLogger", f"+logger.save_dir={tmp_path / 'csv'}")
    with Logs(check(Command(composed(*words)), Path()), begun) as logs:
        logger = logs.open()
        assert logger is not None
        logger.log_metrics({"val/auc": 0.5}, 3)
        logs.figure("roc", tmp_path, None)  # type: ignore[arg-type]
    (written,) = (tmp_path / "csv").rglob("metrics.csv")
    assert written.read_text().split() == ["step,val/auc", "3,0.5"]
    assert "data.batch_size: 16" in (written.parent / "hparams.yaml").read_text()


def test_a_store_that_cannot_be_opened_is_one_line(begun: RunDirectory, tmp_path: Path) -> None:
    words = (*QUICK, "logger=mlflow", f"logger.tracking_uri=nothing://{tmp_path}")
    with pytest.raises(RunError, match=r"logger: siamese.training.loggers.MLflow could not be opened"):
        Logs(validate(composed(*words)), begun).open()


@pytest.mark.parametrize(
    ("choice", "package"), [("tensorboard", "tensorboard"), ("mlflow", "sqlalchemy"), ("wandb", "wandb")]
)
def test_a_logger_that_is_not_installed_says_what_installs_it(
    choice: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    expected = rf"logger={choice}: {package} is not installed; pip install -e '\.\[{choice}\]' installs it"
    with pytest.raises(ConfigError, match=expected):
        check(Command(composed(*QUICK, f"logger={choice}")), Path())


def test_a_missing_logger_ends_the_command_before_its_directory_is_made(train_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise ModuleNotFoundError('No module named wandb')\n")
    run = tmp_path / "run"
    done = train_cli(*QUICK, "logger=wandb", f"hydra.run.dir={run}", check=False, PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: logger=wandb: wandb is not installed; pip install -e '.[wandb]' installs it\n"
    )
    assert not run.exists()


@given(st.lists(st.text(st.sampled_from("ab_x24$ %é/.-\n"), max_size=8), unique=True))
def test_no_two_metrics_merge_in_the_letters_of_a_logger(names: list[str]) -> None:
    tags = [as_tag(name) for name in names]
    assert len(set(tags)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_/.-]*", one) for one in tags)
    assert as_tag("val/area/airplane_2.x") == "val/area/airplane_2.x"
