"""A run that was killed, however often and wherever, and gone on with ends bit for bit as the same
run left alone."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.forkserver import ForkServer, Started

from siamese.errors import RunError
from siamese.runs.checkpoint import newest
from siamese.runs.directory import RunDirectory
from siamese.runs.files import TEMPORARY, atomic
from siamese.training.random_state import random_state, restore_random_state

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")}

# Eight micro-batches an epoch (seven with limit_train_batches=7), so that the last window is short.
COMMON = (
    "data=digits model=conv_small model.width=4 device=cpu loss=triplet_koleo data.images_per_class=12 "
    "data.batch_size=13 data.eval_batch_size=8 trainer.accumulate_grad_batches=3 figures.draw=false"
)
NOISY = "model._target_=support.killer.noisy_conv_small"
EXPERIMENTS = {
    "noisy": f"{NOISY} accumulation=exact optimizer.lr=0.01 scheduler=cosine trainer.max_epochs=3 "
    "callbacks.checkpoint_every_steps=1 callbacks.checkpoint_every=1",
    "one_cycle": "optimizer=sgd scheduler=one_cycle trainer.max_epochs=8 callbacks.checkpoint_every_steps=2",
    "step": "scheduler=step scheduler.step_size=1 scheduler.gamma=0.5 trainer.limit_train_batches=7 "
    "trainer.max_epochs=3 callbacks.checkpoint_every_steps=2",
    "constant": "accumulation=memory accumulation.scope=persistent accumulation.size=60 optimizer=sgd "
    "trainer.max_epochs=4 callbacks.checkpoint_every_steps=1",
    "plateau": "optimizer.lr=0.01 scheduler=plateau scheduler.patience=0 scheduler.threshold=0.5 scheduler.factor=0.5 "
    "scheduler.warmup=4 scheduler.interval=step trainer.max_epochs=4 callbacks.checkpoint_every_steps=1 "
    "callbacks.swa=2",
    "steps": "optimizer.lr=0.01 scheduler=cosine trainer.max_steps=5 callbacks.checkpoint_every_steps=1",
    "patience": "optimizer.lr=0.01 trainer.max_epochs=9 callbacks.monitor=val/recall_at_10 callbacks.patience=2",
}


def command(experiment: str, run: Path, *words: str) -> list[str]:
    """The words after train.py that begin ``experiment`` in ``run``."""
    return [*COMMON.split(), *EXPERIMENTS[experiment].split(), f"hydra.run.dir={run}", *words]


def resume(run: Path, *words: str) -> list[str]:
    """The words after train.py that go on with ``run``."""
    trusted = [NOISY] if NOISY in (run / ".hydra" / "overrides.yaml").read_text() else []
    return [f"resume={run}", *trusted, *words]


class Killer:
    """Runs of train.py that end as they are told to."""

    def __init__(self, server: ForkServer) -> None:
        self.server = server

    def run(self, words: list[str], log: Path, **end: Any) -> int:
        """The exit status of a run that ends at the ``nth`` time it is at ``place`` (see tests/support/killer.py) or
        ``after`` so many seconds, by ``signal`` (SIGKILL if not given); nothing given: by itself."""
        return self.server.run("train.py", *words, stdout=log, stderr=log, environment=ENVIRONMENT, **end)

    def start(self, words: list[str], log: Path) -> Started:
        """A run that goes on while it is watched."""
        return self.server.start("train.py", *words, stdout=log, stderr=log, environment=ENVIRONMENT)


@pytest.fixture(scope="session")
def killer(server: ForkServer) -> Killer:
    return Killer(server)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the processes of this test session share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "references"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def reference(shared: Path, killer: Killer) -> Callable[[str], Path]:
    """The run directory of an experiment that nothing interrupted."""

    def get(experiment: str) -> Path:
        run, log = shared / experiment, shared / f"{experiment}.log"
        with (shared / f"{experiment}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not run.exists():
                assert killer.run(command(experiment, run), log) == 0, log.read_text()
        assert json.loads((run / "status.json").read_text())["state"] == "completed"
        return run

    return get


# -- what is compared --------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=True)


def same(a: Any, b: Any) -> bool:
    """Whether two nests of primitives and tensors are equal, types and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_whole(run: Path, reference: Path) -> None:
    """What a kill leaves: checkpoints that load, and the rows of the reference up to some epoch."""
    for path in (run / "checkpoints").glob("*.ckpt"):
        load(path)
    for path in run.glob("*.json"):
        json.loads(path.read_text())
    found = rows(run) if (run / "metrics.csv").exists() else []
    assert found == rows(reference)[: len(found)]


def assert_same(run: Path, reference: Path) -> None:
    """Everything that the two runs learnt and measured is equal, and nothing is left over."""
    assert rows(run) == rows(reference)
    epochs = int(rows(reference)[-1]["epoch"])
    assert [row["epoch"] for row in rows(run)] == [str(epoch) for epoch in range(epochs + 1)]
    checkpoints = sorted(path.name for path in (reference / "checkpoints").iterdir())
    assert {"best.ckpt", "last.ckpt"} <= set(checkpoints)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == checkpoints
    for name in checkpoints:
        a, b = load(run / "checkpoints" / name), load(reference / "checkpoints" / name)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "epoch", "global_step"):
            assert same(a[key], b[key]), f"{key} of {name}"
    assert (run / "summary.json").read_text() == (reference / "summary.json").read_text()
    assert {p.name for p in (run / "arrays").iterdir()} == {p.name for p in (reference / "arrays").iterdir()}
    for path in (reference / "arrays").iterdir():
        with np.load(path) as expected, np.load(run / "arrays" / path.name) as found:
            assert set(found) == set(expected)
            for key, value in expected.items():
                assert found[key].dtype == value.dtype
                np.testing.assert_array_equal(found[key], value)
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert not list(run.rglob(f"*{TEMPORARY}"))


def assert_survives(
    killer: Killer, experiment: str, run: Path, reference: Path, ends: list[dict[str, Any]], sure: bool = True
) -> None:
    """Begin ``experiment`` in ``run``, die of each of ``ends`` in turn, then go on to the end."""
    log = run.with_suffix(".log")
    words = command(experiment, run)
    for end in ends:
        status = killer.run(words, log, **end)
        if status == 0 and not sure:
            break
        assert status == -signal.SIGKILL, f"{end}: {status}\n{log.read_text()}"
        assert_whole(run, reference)
        if not sure and completed(run):  # killed on its way out
            break
        if (run / "manifest.json").exists():
            words = resume(run)
    else:
        assert killer.run(words, log) == 0, log.read_text()
    assert_same(run, reference)


def completed(run: Path) -> bool:
    status = run / "status.json"
    return status.exists() and json.loads(status.read_text())["state"] == "completed"


def at(place: str, nth: int = 1) -> dict[str, Any]:
    return {"place": place, "nth": nth}


# -- SIGKILL at a place ------------------------------------------------------------------------------


def test_killed_everywhere_in_the_first_epoch(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    places = [
        at("before the samples"),
        at("in the validation of epoch 0", 2),
        at("after a micro-batch", 2),  # no checkpoint yet
        at("half-way through a checkpoint"),
        at("before last.ckpt is renamed"),
        at("after last.ckpt is renamed"),
        at("after a micro-batch", 2),  # in the second window
        at("before last.ckpt is renamed"),
        at("before a training step", 4),  # the last window, which is not saved
        at("in a validation", 2),
        at("after a row"),
        at("before best.ckpt is renamed"),
        at("after best.ckpt is renamed"),
        at("after an epoch"),
    ]
    assert_survives(killer, "noisy", tmp_path / "run", reference("noisy"), places)


def test_killed_everywhere_after_the_first_epoch(
    killer: Killer, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    places = [
        at("after an epoch"),
        at("before a training step"),
        at("after a micro-batch", 7),
        at("half-way through a checkpoint"),
        at("in a validation"),
        at("after an epoch"),
        at("in a validation"),
        at("before last.ckpt is renamed"),
        at("after last.ckpt is renamed"),
        at("in the final validation"),
        at("in the final test"),
        at("before the summary"),
        at("after the summary"),
    ]
    assert_survives(killer, "noisy", tmp_path / "run", reference("noisy"), places)


@pytest.mark.parametrize("experiment", ["constant", "plateau"])
def test_killed_in_and_between_epochs(
    experiment: str, killer: Killer, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    places = [at("after a micro-batch", 7), at("after an epoch"), at("in a validation")]
    assert_survives(killer, experiment, tmp_path / "run", reference(experiment), places)


def test_killed_where_patience_ends(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    last = int(rows(reference("patience"))[-1]["epoch"])
    assert 3 <= last < 9
    places = [at("after an epoch"), at("after last.ckpt is renamed", last - 1), at("in the final validation")]
    assert_survives(killer, "patience", tmp_path / "run", reference("patience"), places)


def test_killed_where_steps_end(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    assert [row["step"] for row in rows(reference("steps"))] == ["0", "3", "5"]
    places = [
        at("after a micro-batch", 6),
        at("in a validation"),
        at("before a training step", 5),
        at("in a validation"),  # of the epoch that is cut short
        at("after last.ckpt is renamed"),
        at("in the final validation"),
    ]
    assert_survives(killer, "steps", tmp_path / "run", reference("steps"), places)


def test_killed_at_any_rename(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    draws = random.Random(0)
    places = [at(f"{draws.choice(['before', 'after'])} a rename", draws.randint(1, 14)) for _ in range(5)]
    assert_survives(killer, "noisy", tmp_path / "run", reference("noisy"), places, sure=False)


# -- SIGKILL at a moment -----------------------------------------------------------------------------


def test_killed_at_random_moments(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    draws = random.Random(0)
    ends = [{"after": draws.uniform(0.3, 2.0)} for _ in range(4)]
    assert_survives(killer, "noisy", tmp_path / "run", reference("noisy"), ends, sure=False)


def wait_for(condition: Callable[[], bool], process: Started) -> None:
    """Until ``condition`` or the end of ``process``."""
    while process.poll() is None and not condition():
        time.sleep(0.005)


def training(run: Path, process: Started, steps: int) -> Callable[[], bool]:
    """Whether ``process`` has replaced last.ckpt so often."""
    seen: set[tuple[int, int]] = set()

    def condition() -> bool:
        try:
            own = json.loads((run / "status.json").read_text())["pid"] == process.pid
            found = (run / "checkpoints" / "last.ckpt").stat()
        except (OSError, ValueError):
            return False
        if own or not seen:
            seen.add((found.st_ino, found.st_mtime_ns))
        return len(seen) > steps

    return condition


def test_killed_from_outside(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    process = killer.start(command("one_cycle", run), log)
    wait_for(training(run, process, 5), process)
    time.sleep(random.Random(3).uniform(0, 0.1))
    process.kill()
    assert process.wait() == -signal.SIGKILL, log.read_text()
    assert_whole(run, reference("one_cycle"))
    assert killer.run(resume(run), log) == 0, log.read_text()
    assert_same(run, reference("one_cycle"))


# -- SIGINT and SIGTERM ------------------------------------------------------------------------------


def test_ctrl_c_stops_cleanly(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    number = signal.SIGINT
    run, log = tmp_path / "run", tmp_path / "log"
    process = killer.start(command("one_cycle", run, "callbacks.checkpoint_every_steps=1"), log)
    wait_for(training(run, process, 2), process)
    process.send_signal(number)
    assert process.wait() == 128 + number, log.read_text()
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    assert f"resume={run}" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert "state_dict" in load(run / "checkpoints" / "last.ckpt")
    assert killer.run(resume(run), log) == 0, log.read_text()
    assert_same(run, reference("one_cycle"))


def test_a_signal_stops_cleanly_anywhere(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = command("step", run)
    for place, number, step in (
        ("in the validation of epoch 0", signal.SIGINT, None),
        ("before a training step", signal.SIGTERM, 1),  # its window is finished and saved, though no save was due
        ("in a validation", signal.SIGINT, 3),  # the epoch is finished and saved
        ("after last.ckpt is renamed", signal.SIGTERM, 4),
        ("in the final test", signal.SIGINT, 9),
    ):
        assert killer.run(words, log, **at(place), signal=number) == 128 + number, f"{place}\n{log.read_text()}"
        assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
        last = run / "checkpoints" / "last.ckpt"
        assert (load(last)["global_step"] if last.exists() else None) == step, place
        assert_whole(run, reference("step"))
        words = resume(run)
    assert killer.run(words, log) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert_same(run, reference("step"))


# -- damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "nth"),
    [
        ("after a micro-batch", 14),  # last.ckpt is of the second epoch's first window, and a file of its own
        ("after an epoch", 2),  # last.ckpt is epoch-0002.ckpt under another name
    ],
)
def test_a_truncated_last_checkpoint_is_stepped_over(
    place: str, nth: int, killer: Killer, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert killer.run(command("noisy", run), log, **at(place, nth)) == -signal.SIGKILL, log.read_text()
    last = run / "checkpoints" / "last.ckpt"
    os.truncate(last, last.stat().st_size // 2)
    with (run / "metrics.csv").open("a") as file:
        file.write("2,6,6")
    (run / "checkpoints" / f".last.ckpt.1{TEMPORARY}").write_bytes(b"half")
    assert killer.run(resume(run), log) == 0, log.read_text()
    assert "last.ckpt cannot be read; going on from epoch-0001.ckpt instead" in log.read_text()
    assert_same(run, reference("noisy"))


def test_a_truncated_last_checkpoint_of_a_finished_training_is_made_anew(
    killer: Killer, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert killer.run(command("noisy", run), log, **at("in the final test")) == -signal.SIGKILL, log.read_text()
    last = run / "checkpoints" / "last.ckpt"
    half = last.read_bytes()[: last.stat().st_size // 2]
    last.unlink()
    last.write_bytes(half)
    assert killer.run(resume(run), log) == 0, log.read_text()
    assert "last.ckpt cannot be read; going on from epoch-0003.ckpt instead" in log.read_text()
    assert_same(run, reference("noisy"))


# -- longer, again, and with another seed ------------------------------------------------------------


def test_a_completed_run_goes_on_for_more_epochs(
    killer: Killer, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    assert killer.run(command("constant", run, "trainer.max_epochs=2"), log) == 0, log.read_text()
    assert len(rows(run)) == 3
    (run / "metrics.csv").write_text((run / "metrics.csv").read_text().removesuffix("\n") + "\n3,9,9")
    assert killer.run(resume(run), log) == 2
    assert "the run has completed its 2 epochs; raise trainer.max_epochs to go on" in log.read_text()
    longer = resume(run, "trainer.max_epochs=4")
    assert killer.run(longer, log, **at("after a micro-batch", 4)) == -signal.SIGKILL, log.read_text()
    assert killer.run(resume(run), log) == 0, log.read_text()  # the longer run is the run now
    assert_same(run, reference("constant"))
    assert len(json.loads((run / "manifest.json").read_text())["resumes"]) == 2


def test_a_run_killed_in_its_first_epochs_goes_on_for_more(
    killer: Killer, reference: Callable[[str], Path], tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = command("constant", run, "trainer.max_epochs=2")
    assert killer.run(words, log, **at("after a micro-batch", 12)) == -signal.SIGKILL, log.read_text()
    assert killer.run(resume(run, "trainer.max_epochs=4"), log) == 0, log.read_text()
    assert_same(run, reference("constant"))


def test_a_seed_decides_everything(killer: Killer, reference: Callable[[str], Path], tmp_path: Path) -> None:
    same_seed, other_seed, log = reference("noisy"), tmp_path / "other", tmp_path / "log"
    assert killer.run(command("noisy", other_seed, "seed=1"), log) == 0, log.read_text()
    a, b = (load(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (same_seed, other_seed))
    assert not any(same(a[key], b[key]) for key in a if a[key].ndim > 1 and not key.endswith(("mean", "std")))
    assert rows(same_seed)[0] != rows(other_seed)[0]
    facts = (json.loads((run / "manifest.json").read_text())["split"] for run in (same_seed, other_seed))
    assert len({fact["fingerprint"] for fact in facts}) == 2


# -- the pieces --------------------------------------------------------------------------------------


def test_the_random_state_goes_round(tmp_path: Path) -> None:
    def draw() -> list[Any]:
        return [torch.randn(3).tolist(), np.random.normal(size=3).tolist(), [random.gauss(0, 1) for _ in range(3)]]

    before = random_state()
    try:
        draw()  # an odd number of normal draws: NumPy and Python keep the other half of a pair
        torch.save(random_state(), tmp_path / "state")
        expected = draw()
        draw()
        restore_random_state(load(tmp_path / "state"))
        assert draw() == expected
    finally:
        restore_random_state(before)


def test_the_newest_checkpoint_that_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest(tmp_path) is None
    assert newest(tmp_path / "absent") is None
    for age, name in enumerate(["last.ckpt", "epoch-0002.ckpt", "best.ckpt", "epoch-0001.ckpt"]):
        torch.save({"state_dict": {}}, tmp_path / name)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / f".last.ckpt.1{TEMPORARY}").write_bytes(b"half")
    os.utime(tmp_path / "last.ckpt", (1, 1))
    assert newest(tmp_path) == tmp_path / "last.ckpt"
    assert not caplog.records
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert newest(tmp_path) == tmp_path / "epoch-0002.ckpt"
    assert caplog.messages == [f"{tmp_path / 'last.ckpt'} cannot be read; going on from epoch-0002.ckpt instead"]
    torch.save({"no": "weights"}, tmp_path / "epoch-0002.ckpt")
    torch.save({"state_dict": {}, "code": print}, tmp_path / "best.ckpt")
    assert newest(tmp_path) == tmp_path / "epoch-0001.ckpt"
    (tmp_path / "epoch-0001.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(RunError, match="none of its checkpoints can be read"):
        newest(tmp_path)


def test_atomic_writes_the_whole_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    with atomic(path) as file:
        file.write(b"one")
        assert not path.exists()
    with pytest.raises(TypeError), atomic(path) as file:
        file.write("two")  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"file: could not be written \(No space left"), atomic(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"one"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_new_row_replaces_its_epoch_and_what_follows(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for epoch in range(4):
        run.add_epoch({"epoch": epoch, "train/loss": None if epoch == 0 else epoch / 3, "seconds": 1.0})
    whole = (tmp_path / "metrics.csv").read_text()
    for torn in ("4", "4,", "4,1.3", "4,1.3333333333333333,1.0"):  # no line without its end counts
        (tmp_path / "metrics.csv").write_text(whole + torn)
        assert [row["epoch"] for row in run.history()] == list("0123")
    run.add_epoch({"epoch": 2, "train/loss": 0.5, "seconds": 2.0})
    assert [(row["epoch"], row["train/loss"]) for row in run.history()] == [
        ("0", ""),
        ("1", repr(1 / 3)),
        ("2", "0.5"),
    ]
