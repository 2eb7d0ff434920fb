"""Any file of a run directory may be missing, damaged or of another run: each reader goes on without it, or names it
in one line."""

from __future__ import annotations

import functools
import io
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console
from support.damage import (
    DAMAGES,
    FOLDER,
    ODD,
    ODD_ARRAYS,
    ODD_ROWS,
    OTHER,
    copy,
    damage,
    edit,
    replace,
    rewrite,
    train_two,
)
from support.processes import Cli

import siamese.commands.train  # noqa: F401 (registers what conf/train.yaml reads)
from siamese.commands import compare
from siamese.commands.evaluate import evaluate_again
from siamese.config import trust
from siamese.config.data import Data
from siamese.data import load
from siamese.errors import ConfigError, RunError
from siamese.figures import from_arrays
from siamese.paths import CONF
from siamese.runs.arrays import layout_of, read_arrays
from siamese.runs.checkpoint import newest
from siamese.runs.find import find_runs
from siamese.runs.locks import release
from siamese.runs.read import read_metrics
from siamese.runs.run import LeftOut, read_run
from siamese.runs.state import recorded, state
from siamese.training.check import Command
from siamese.training.run import train

ARRAYS = ("arrays/samples.npz", "arrays/test.npz")
FILES = [
    "manifest.json",
    "status.json",
    "config.resolved.yaml",
    "summary.json",
    "metrics.csv",
    "train.log",
    ".hydra/overrides.yaml",
    "checkpoints/last.ckpt",
    "checkpoints/best.ckpt",
    *ARRAYS,
]
EVERY = [(file, how) for file in FILES for how in [*DAMAGES, FOLDER] if how != "nested blocks" or file.endswith("yaml")]
ENTRIES = [(file, key, value) for file, found in ODD.items() for key, value in found]


def short(value: Any) -> str:
    return re.sub(r"0{20,}", "000", str(value))


@pytest.fixture(scope="session")
def trained(train_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_two(train_cli, tmp_path_factory)


@pytest.fixture(scope="module", autouse=True)
def read_once() -> Iterator[None]:
    """What every command reads anew, the options and the images, is read once for all that run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        nodes, images = trust._nodes_below, {}
        patch.setattr(trust, "_nodes_below", functools.cache(lambda folder: list(nodes(folder))))

        def loaded(data: Data, seed: int) -> object:
            key = (repr(data), seed)
            if key not in images:
                images[key] = load(data, seed)
            return images[key]

        patch.setattr("siamese.training.run.load_to_train", loaded)
        patch.setattr("siamese.data.load", loaded)
        yield


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the run, to be damaged."""
    found = copy(trained, tmp_path / "run")
    yield found
    release(found)


def assert_one_line(error: object, *says: str) -> None:
    text = str(error)
    assert [words for words in says if words not in text] == []
    assert len(text.splitlines()) == 1
    assert len(text) < 700


# -- compare -----------------------------------------------------------------------------------------

NEEDED = ("manifest.json", "status.json", "config.resolved.yaml", "summary.json")


@pytest.mark.parametrize(("file", "how"), EVERY)
def test_compare_leaves_out_a_run_that_lacks_what_it_needs(run: Path, trained: Path, file: str, how: str) -> None:
    damage(run / file, how, trained.parent / OTHER / file)
    found = read_run(run)
    assert isinstance(found, LeftOut) == (file in NEEDED and how != OTHER)
    if isinstance(found, LeftOut):
        assert_one_line(found.reason)
        assert found.reason.startswith(f"{file}: ")


@pytest.mark.parametrize(("file", "key", "value"), ENTRIES, ids=short)
def test_compare_leaves_out_a_run_with_an_odd_entry(run: Path, file: str, key: str, value: Any) -> None:
    rewrite(run / file, key, value)
    found = read_run(run)
    assert isinstance(found, LeftOut)
    assert_one_line(found.reason)
    assert found.reason.startswith(f"{file}: ")
    assert (
        key.partition(".")[0] in found.reason
        or "100 digits" in found.reason
        or "50 deep" in found.reason
        or (value != value and "NaN" in found.reason)
        or (value == math.inf and "Infinity" in found.reason)
    )


@pytest.mark.parametrize(("says", "change"), ODD_ROWS.items(), ids=list(ODD_ROWS))
def test_rows_that_cannot_be_read_are_said_to_be(run: Path, says: str, change: Callable[[Path], None]) -> None:
    change(run / "metrics.csv")
    with pytest.raises(RunError) as error:
        read_metrics(run / "metrics.csv")
    assert_one_line(error.value, f"{run / 'metrics.csv'}: ", says)
    found = read_run(run)
    assert not isinstance(found, LeftOut)
    assert found.rows == []
    assert says in str(found.rows_unread)


def test_a_torn_last_row_is_left_out(run: Path) -> None:
    whole = read_metrics(run / "metrics.csv")
    text = (run / "metrics.csv").read_bytes()
    for torn in (b"3", b"3,", b"3,1.3", text.splitlines()[-1]):
        replace(run / "metrics.csv", text + torn)
        assert read_metrics(run / "metrics.csv") == whole


def test_compare_ends_well_whatever_lies_beside_the_runs(trained: Path, tmp_path: Path) -> None:
    """Every damage at once, each to a run of its own."""
    other, folder = trained.parent / OTHER, tmp_path / "runs"
    changes: list[tuple[str, Callable[[Path], None]]] = [
        *((file, lambda path, how=how, file=file: damage(path, how, other / file)) for file, how in EVERY),
        *((file, lambda path, key=key, value=value: rewrite(path, key, value)) for file, key, value in ENTRIES),
        *(("metrics.csv", change) for change in ODD_ROWS.values()),
        *((f"arrays/{name}.npz", change) for name, change, _ in ODD_ARRAYS),
    ]
    for number, (file, change) in enumerate(changes):
        run = copy(trained, folder / f"{number:03d}")
        rewrite(run / "config.resolved.yaml", "seed", number)  # or they would be repeats of one another
        change(run / file)
    runs, left_out = find_runs([folder])
    assert len(runs) + len(left_out) == len(changes)
    assert len(runs) > 50
    console, out = io.StringIO(), tmp_path / "out"
    assert compare.main([str(folder), "--out", str(out)], Console(file=console, width=500)) == 0, console.getvalue()
    drawn = (out / "report.html").read_text().partition("<body")[2]
    assert [found[0] for found in re.finditer(r'[ "=-](inf|nan)\b.{0,40}', drawn, re.I)] == []
    unread = [run for run in runs if run.rows_unread is not None]
    assert f"no curves of {len(unread)} of " in console.getvalue()
    assert f"({unread[0].name}: metrics.csv: " in console.getvalue()


# -- what a sweep sees -------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "how"), EVERY)
def test_the_state_of_a_damaged_run(run: Path, trained: Path, file: str, how: str) -> None:
    damage(run / file, how, trained.parent / OTHER / file)
    found = state(run)
    if file in ("status.json", "summary.json") and how != OTHER:
        assert (found.name, found.metric) == ("failed", None)
        assert_one_line(found.says)
        assert str(found.says).startswith(f"{run / file}: ")
    else:
        assert (found.name, found.says) == ("completed", None)
        assert found.metric is not None
        assert found.seconds is not None or file == "metrics.csv"


@pytest.mark.parametrize(("key", "value"), ODD["status.json"], ids=short)
def test_the_state_of_an_odd_status(run: Path, key: str, value: Any) -> None:
    rewrite(run / "status.json", key, value)
    assert state(run).name == "failed"
    assert str(state(run).says).startswith(f"{run / 'status.json'}: ")


def test_the_state_of_what_holds_no_run(tmp_path: Path) -> None:
    assert state(tmp_path).name == "new"
    (tmp_path / "status.json").write_text("{")
    assert state(tmp_path).name == "new"


# -- resume ------------------------------------------------------------------------------------------

Begins = Callable[..., list[str]]


class Reached(BaseException):
    """What comes next would be long: training, or measuring."""


def reach(*_: object, **__: object) -> None:
    raise Reached


@pytest.fixture
def unfinished(run: Path) -> Path:
    """The copy as if it had been interrupted after two of three epochs."""
    rewrite(run / "status.json", "state", "interrupted")
    rewrite(run / "config.resolved.yaml", "trainer.max_epochs", 3)
    return run


@pytest.fixture
def begins(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Begins:
    """Goes on with a run until it would train; the warnings by then."""
    monkeypatch.setattr("pytorch_lightning.Trainer.fit", reach)

    def resume(run: Path, *words: str) -> list[str]:
        """``words`` are what the command line says besides; the first command is read for them."""
        command = Command(OmegaConf.create({"resume": str(run)}), (f"resume={run}", *words))
        caplog.clear()
        with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(Reached):
            train(command, run)
        return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]

    return resume


def assert_refused(begins: Begins, run: Path, *says: str, words: Sequence[str] = ()) -> None:
    """Resuming ``run`` is refused in one line, and leaves it as it was."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(ConfigError) as error:
        begins(run, *words)
    assert_one_line(error.value, f"resume={run}", *says)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"} == before


def settled(run: Path, trained: Path) -> bool:
    """Whether what training needs is as in ``trained``."""
    same = all((run / file).read_bytes() == (trained / file).read_bytes() for file in ("metrics.csv", BEST))
    samples, expected = (read_arrays(folder / "arrays" / "samples.npz") for folder in (run, trained))
    known = [key for key in expected if key != "triplet_distances"]  # which the end of the run measures
    return same and all(np.array_equal(samples[key], expected[key]) for key in known)


LAST, BEST, OVERRIDES = "checkpoints/last.ckpt", "checkpoints/best.ckpt", ".hydra/overrides.yaml"
NO_RESUME = {
    **{(file, how): file for file, how in EVERY if how == FOLDER and file != OVERRIDES},
    **{(file, how): file for file, how in EVERY if file in ("manifest.json", "config.resolved.yaml", OVERRIDES)},
    ("config.resolved.yaml", OTHER): "the data of the run has changed",  # of another seed: it draws other images
    ("manifest.json", OTHER): f"{LAST}: is a checkpoint of another run",
    (LAST, OTHER): f"{LAST}: is a checkpoint of another run",
}
del NO_RESUME[OVERRIDES, OTHER]  # the same command but for its seed, which both sides of what is compared have
WORD = "++callbacks.heartbeat_seconds=5"  # for which the first command is read


@pytest.mark.parametrize(("row", "says"), NO_RESUME.items(), ids=[" ".join(row) for row in NO_RESUME])
def test_resume_is_refused_without_what_cannot_be_made_again(
    unfinished: Path, trained: Path, begins: Begins, row: tuple[str, str], says: str
) -> None:
    file, how = row
    damage(unfinished / file, how, trained.parent / OTHER / file)
    if row == ("config.resolved.yaml", OTHER):  # the images are known once they are read
        with pytest.raises(ConfigError, match=says):
            begins(unfinished)
        assert recorded(unfinished).name == "interrupted"  # as it was
    else:
        assert_refused(begins, unfinished, says, words=[WORD] if file == OVERRIDES else [])


@pytest.mark.parametrize("how", DAMAGES)
def test_resume_makes_whole_what_it_needs_before_it_trains(
    unfinished: Path, trained: Path, begins: Begins, how: str
) -> None:
    for file in ("status.json", "summary.json", "metrics.csv", "train.log", BEST, *ARRAYS):
        damage(unfinished / file, how, trained.parent / OTHER / file)
    (said,) = begins(unfinished)
    assert settled(unfinished, trained)
    assert_one_line(said, f"{unfinished / 'metrics.csv'}: ", "made again from last.ckpt")


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != OTHER])
def test_resume_goes_on_from_another_checkpoint(unfinished: Path, trained: Path, begins: Begins, how: str) -> None:
    damage(unfinished / LAST, how, unfinished / LAST)
    (said,) = begins(unfinished)
    assert settled(unfinished, trained)
    assert_one_line(said, f"{unfinished / LAST} cannot be read; going on from ")


@pytest.mark.parametrize(("key", "value"), ODD["status.json"], ids=short)
def test_resume_needs_no_status(unfinished: Path, begins: Begins, key: str, value: Any) -> None:
    rewrite(unfinished / "status.json", key, value)
    assert begins(unfinished) == []


def test_a_status_that_the_checkpoints_belie(unfinished: Path, begins: Begins) -> None:
    rewrite(unfinished / "status.json", "state", "completed")
    assert begins(unfinished) == []
    rewrite(unfinished / "config.resolved.yaml", "trainer.max_epochs", 2)
    rewrite(unfinished / "status.json", "state", "completed")
    assert_refused(begins, unfinished, "has completed its 2 epochs")


ODD_CONFIGURATIONS = [row for row in ENTRIES if row[0] in ("manifest.json", "config.resolved.yaml")]


@pytest.mark.parametrize(("file", "key", "value"), ODD_CONFIGURATIONS, ids=short)
def test_resume_is_refused_with_an_odd_entry(unfinished: Path, begins: Begins, file: str, key: str, value: Any) -> None:
    rewrite(unfinished / file, key, value)
    assert_refused(begins, unfinished, file)


@pytest.mark.parametrize("change", ODD_ROWS.values(), ids=list(ODD_ROWS))
def test_odd_rows_are_made_again_and_kept_aside(
    unfinished: Path, trained: Path, begins: Begins, change: Callable[[Path], None]
) -> None:
    change(unfinished / "metrics.csv")
    odd = (unfinished / "metrics.csv").read_bytes()
    (said,) = begins(unfinished)
    assert_one_line(said, f"{unfinished / 'metrics.csv'}: ", "it is now metrics.csv.damaged; made again from last.ckpt")
    assert (unfinished / "metrics.csv.damaged").read_bytes() == odd
    assert settled(unfinished, trained)


def test_rows_that_are_only_fewer_are_made_again(unfinished: Path, trained: Path, begins: Begins) -> None:
    lines = (unfinished / "metrics.csv").read_text().splitlines(keepends=True)
    replace(unfinished / "metrics.csv", "".join(lines[:2]).encode())
    assert begins(unfinished) == [f"{unfinished / 'metrics.csv'}: epochs 1 to 2 missing; made again from last.ckpt"]
    assert settled(unfinished, trained)
    assert not (unfinished / "metrics.csv.damaged").exists()


def test_rows_after_the_checkpoint_are_left_for_training_to_replace(unfinished: Path, begins: Begins) -> None:
    replace(unfinished / LAST, (unfinished / "checkpoints" / "epoch-0001.ckpt").read_bytes())
    whole = (unfinished / "metrics.csv").read_bytes()
    assert begins(unfinished) == []
    assert (unfinished / "metrics.csv").read_bytes() == whole


def test_no_checkpoint_is_left(unfinished: Path, begins: Begins) -> None:
    for path in unfinished.glob("checkpoints/*.ckpt"):
        path.unlink()
    said = "none is left of the 2 epochs before; training begins again"
    assert begins(unfinished) == [f"{unfinished / 'checkpoints'}: {said}"]
    rewrite(unfinished / "status.json", "state", "completed")
    assert_refused(begins, unfinished, "has completed its 3 epochs")


@pytest.mark.parametrize("how", ["missing", "empty", "torn", "nested"])
def test_an_earlier_version_says_which_epochs_are_gone(unfinished: Path, begins: Begins, how: str) -> None:
    for path in (unfinished / "checkpoints").glob("*.ckpt"):
        edit(path, lambda checkpoint: checkpoint.pop("run"))
    assert begins(unfinished) == []
    damage(unfinished / "metrics.csv", how, unfinished / "metrics.csv")
    (said,) = begins(unfinished)
    assert_one_line(said, f"{unfinished / 'metrics.csv'}: ", "rows of epoch", "last.ckpt is of an earlier version")
    assert ("metrics.csv.damaged" in said) == (how in ("empty", "nested"))


PARTS = ["optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step"]
INCOMPLETE: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing but the weights": lambda c: [c.pop(part) for part in PARTS],
    **{f"no {part}": lambda c, part=part: c.pop(part) for part in PARTS},
    "a list for loops": lambda c: c.update(loops=[1]),
    "no loop": lambda c: c["loops"].pop("fit_loop"),
    "no callback": lambda c: c["callbacks"].pop("Checkpoints"),
    "no best": lambda c: c["callbacks"]["Checkpoints"].pop("best"),
    "no random state": lambda c: c["callbacks"]["Checkpoints"].pop("random"),
    "odd rows": lambda c: c["run"].update(metrics="a,b\n1\n"),
}


@pytest.mark.parametrize("change", INCOMPLETE.values(), ids=list(INCOMPLETE))
def test_a_checkpoint_that_training_cannot_go_on_from(
    unfinished: Path, begins: Begins, change: Callable[[dict[str, Any]], object]
) -> None:
    edit(unfinished / LAST, change)
    assert_refused(begins, unfinished, f"{unfinished / LAST}: ")


def test_a_checkpoint_of_another_model(unfinished: Path, begins: Begins) -> None:
    edit(unfinished / LAST, lambda checkpoint: checkpoint["state_dict"].pop("net.mean"))
    with pytest.raises(RunError) as error:
        begins(unfinished)
    assert_one_line(error.value, f"{unfinished / LAST}: not a checkpoint of this run's model", "net.mean")
    assert recorded(unfinished).name == "interrupted"  # as it was


def test_the_best_is_gone_for_good(unfinished: Path, begins: Begins) -> None:
    def older_is_best(checkpoint: dict[str, Any]) -> None:
        checkpoint["callbacks"]["Checkpoints"].update(best={"value": 2.0, "epoch": 1}, also=[])

    edit(unfinished / LAST, older_is_best)
    for path in unfinished.glob("checkpoints/epoch-*.ckpt"):
        path.unlink()
    damage(unfinished / BEST, "torn", unfinished / BEST)
    (said,) = begins(unfinished)
    assert_one_line(
        said, f"{unfinished / BEST}: damaged or not of epoch 1", "are gone; the best from epoch 3 on counts"
    )
    assert not (unfinished / BEST).exists()
    rewrite(unfinished / "config.resolved.yaml", "trainer.max_epochs", 2)
    (said,) = begins(unfinished)
    assert_one_line(said, f"{unfinished / BEST}: missing, and no epoch is left to train; last.ckpt is taken for it")
    assert (unfinished / BEST).read_bytes() == (unfinished / LAST).read_bytes()


def test_a_checkpoint_carries_its_run(run: Path) -> None:
    for path in run.glob("checkpoints/*.ckpt"):
        carried = torch.load(path, weights_only=True)["run"]
        assert carried["run_id"] in (run / "manifest.json").read_text()
        assert (run / "metrics.csv").read_text().startswith(carried["metrics"])
        assert carried["metrics"].count("\n") >= 3  # the names, epoch 0 and epoch 1


# -- evaluate ----------------------------------------------------------------------------------------

NO_EVALUATION = {
    **{(file, how): file for file, how in EVERY if how == FOLDER and file != OVERRIDES},
    **{
        (file, how): file
        for file, how in EVERY
        if file in ("manifest.json", "config.resolved.yaml", "summary.json", BEST)
        and (file, how) not in (("summary.json", "missing"), ("summary.json", OTHER))
    },
    ("config.resolved.yaml", OTHER): "no longer has the images that the run was trained on",
    ("manifest.json", OTHER): "no longer has the images that the run was trained on",
}


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Evaluates a run until it would measure something."""
    monkeypatch.setattr("siamese.evaluator.measured.evaluate", reach)
    return lambda run: evaluate_again([str(run)])


@pytest.mark.parametrize(("row", "says"), NO_EVALUATION.items(), ids=[" ".join(row) for row in NO_EVALUATION])
def test_evaluate_names_what_is_damaged(
    run: Path, trained: Path, measures: Callable[[Path], None], row: tuple[str, str], says: str
) -> None:
    damage(run / row[0], row[1], trained.parent / OTHER / row[0])
    with pytest.raises((ConfigError, RunError)) as error:
        measures(run)
    assert_one_line(error.value, says)


@pytest.mark.parametrize("how", DAMAGES)
def test_evaluate_goes_on_without_what_it_does_not_need(
    run: Path, trained: Path, measures: Callable[[Path], None], how: str
) -> None:
    for file in ("status.json", "metrics.csv", "train.log", LAST, *ARRAYS):
        damage(run / file, how, trained.parent / OTHER / file)
    with pytest.raises(Reached):
        measures(run)


@pytest.mark.parametrize(("file", "key", "value"), ENTRIES, ids=short)
def test_evaluate_with_an_odd_entry(
    run: Path, measures: Callable[[Path], None], file: str, key: str, value: Any
) -> None:
    rewrite(run / file, key, value)
    with pytest.raises((ConfigError, RunError, Reached)) as error:
        measures(run)
    if file == "status.json":
        assert isinstance(error.value, Reached)
    else:
        assert_one_line(error.value, str(run), file)


# -- arrays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [*DAMAGES, FOLDER])
def test_damaged_arrays_are_named(run: Path, trained: Path, how: str) -> None:
    for path in sorted((run / "arrays").iterdir()):
        damage(path, how, trained.parent / OTHER / "arrays" / path.name)
        if how == OTHER:
            assert read_arrays(path)
            continue
        with pytest.raises(RunError) as error:
            read_arrays(path)
        assert_one_line(error.value, f"{path}: ")


@pytest.mark.parametrize(("name", "change", "says"), ODD_ARRAYS, ids=[f"{name} {says}" for name, _, says in ODD_ARRAYS])
def test_figures_name_odd_arrays(run: Path, name: str, change: Callable[[Path], None], says: str) -> None:
    path = run / "arrays" / f"{name}.npz"
    change(path)
    for other in (run / "arrays").iterdir():
        if other.name not in (path.name, "test.npz", "distances_test.npz"):
            other.unlink()
    with pytest.raises(RunError) as error:
        list(from_arrays(run))
    assert_one_line(error.value, str(path), says)


def test_whole_arrays_are_as_they_are_laid_out(trained: Path) -> None:
    paths = sorted((trained / "arrays").iterdir())
    assert len(paths) > 10
    for path in paths:
        with np.load(path) as stored:
            assert read_arrays(path).keys() == {*stored.files}
            assert {*stored.files} <= layout_of(path).keys()


def test_nothing_waits_for_a_pipe(run: Path, begins: Begins) -> None:
    """Reading a named pipe would last until somebody writes into it."""
    for file in ("status.json", LAST, "arrays/test.npz"):
        (run / file).unlink()
        os.mkfifo(run / file)
    assert state(run).name == "failed"
    assert newest(run / "checkpoints") != run / LAST
    with pytest.raises(RunError, match=r"could not be read as arrays \(expected a file"):
        read_arrays(run / "arrays" / "test.npz")
    assert_refused(begins, run, "expected a file, found")
