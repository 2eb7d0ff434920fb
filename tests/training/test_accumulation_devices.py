"""Several devices are one batch: two processes on the CPU against one, in float64."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from pytorch_lightning.callbacks import LambdaCallback
from support.accumulating import Keeper, assert_close, exactly, fit, make, weights
from support.forkserver import ForkServer
from support.processes import ROOT, Cli

from siamese.config.validate import validate
from siamese.data import SiameseData, load
from siamese.data.batch import Batch
from siamese.data.batches import Triplets
from siamese.data.loader import RankLoader
from siamese.losses import KoLeo, Objective, TripletLoss
from siamese.runs.directory import RunDirectory
from siamese.runs.locks import release
from siamese.training.accumulation import Exact
from siamese.training.build import build, make_trainer
from siamese.training.checkpoints import Checkpoints
from siamese.training.gradient_study.meter import GradientMeter
from siamese.training.learner import Learner
from siamese.training.recorder import Recorder
from siamese.training.signals import StopRequest

pytestmark = pytest.mark.slow

NET = "model._target_=support.accumulating.plain_net"
TESTS = {"PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"}
WORDS = (
    "data=digits data.images_per_class=12 data.val_fraction=0.3 model=conv_small model.embedding_dim=6 "
    "loss=triplet_koleo loss.koleo_weight=0.5 device.precision=64-true optimizer=sgd optimizer.lr=0.1 "
    "trainer.accumulate_grad_batches=2 callbacks.checkpoint_every_steps=1 figures.draw=false name=run"
)
EXPERIMENTS = {
    "naive": "trainer.max_epochs=2 accumulation.measure_every=2",
    "exact": "trainer.max_epochs=3 accumulation=exact",
}
TWO = ("device=cpu_ddp", "data.batch_size=4")  # for each of two devices


def command(experiment: str, *words: str) -> list[str]:
    """What follows train.py; device.precision comes after the device that it changes."""
    return [*words, *WORDS.split(), *EXPERIMENTS[experiment].split(), NET]


def alone(experiment: str, where: Path) -> Path:
    """The run directory of one process with all of each micro-batch."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = validate(compose("train", command(experiment, "device=cpu", "data.batch_size=8")))
    torch.manual_seed(config.seed)
    data = SiameseData(load(config.data, config.seed), config.data, config.seed)
    module = build(config, data)
    every = config.accumulation.measure_every
    meter = [GradientMeter(every)] if every else []
    with StopRequest() as stop:
        run = RunDirectory(where)
        recorder = Recorder(run, config.callbacks, *meter)
        checkpoints = Checkpoints(run, stop, recorder.require_finite)
        make_trainer(config, where, [*meter, recorder, checkpoints]).fit(module, datamodule=data)
        release(where)
    return where


def assert_same_run(one: Path, other: Path) -> None:
    """The same weights, and the same row of metrics for every epoch."""
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (one, other)]
    assert_close(*states, 1e-10)
    rows = [list(csv.DictReader((run / "metrics.csv").open())) for run in (one, other)]
    assert len(rows[0]) == len(rows[1])
    for row, expected in zip(*rows, strict=True):
        assert row.keys() == expected.keys()
        for name in row.keys() - {"seconds"}:
            value, other_value = ([float(text) for text in (each[name],) if text] for each in (row, expected))
            assert value == pytest.approx(other_value, rel=1e-6), name
    assert set(rows[0][-1]) >= {"train/embeddings", "train/koleo", "val/auc"}


def test_two_processes_are_one_batch_naive(train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "two"
    done = train_cli(*command("naive", *TWO), f"hydra.run.dir={run}", **TESTS)
    assert_same_run(run, alone("naive", tmp_path / "one"))
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    assert 0.1 < float(rows[1]["train/gradient_cosine"]) < 0.999
    assert "4 triplets × window 2 × 2 devices = 16 triplets a step; KoLeo sees 24 embeddings" in done.stdout
    assert done.stdout.count("epoch 2/2") == 1
    assert done.stderr == ""
    assert (run / "train.log").read_text().count("epoch 2/2") == 1
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert json.loads((run / "manifest.json").read_text())["device"]["devices"] == 2
    with np.load(run / "arrays" / "test.npz") as arrays:
        assert len(set(arrays["ids"])) == len(arrays["ids"]) == len(arrays["embeddings"])


def test_two_processes_stopped_and_gone_on_with_are_one_batch_exact(
    train_cli: Cli, server: ForkServer, tmp_path: Path
) -> None:
    """A signal that reaches the first process alone stops both after the same step."""
    run, stderr = tmp_path / "two", tmp_path / "stderr"
    words = (*command("exact", *TWO), f"hydra.run.dir={run}")
    to = {"stdout": tmp_path / "stdout", "stderr": stderr, "environment": {**os.environ, **TESTS}}
    started = server.start("train.py", *words, **to)
    for _ in range(1200):
        if (run / "checkpoints" / "last.ckpt").exists() or started.poll() is not None:
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 143, stderr.read_text()
    assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
    train_cli(f"resume={run}", NET, **TESTS)
    assert_same_run(run, alone("exact", tmp_path / "one"))


def test_each_process_has_dropout_of_its_own_the_same_in_both_passes(train_cli: Cli, tmp_path: Path) -> None:
    noted = tmp_path / "dropout"
    words = [word for word in command("exact", *TWO) if word != NET]
    net = "model._target_=support.accumulating.dropout_net"
    one_step = ("trainer.max_epochs=1", "trainer.limit_train_batches=2")
    train_cli(*words, net, *one_step, f"hydra.run.dir={tmp_path / 'run'}", **TESTS, NOTED_DROPOUT=str(noted))
    ranks = [Path(f"{noted}.{rank}").read_text().splitlines() for rank in range(2)]
    for first, second, again in ranks:  # the last micro-batch of a window is embedded once
        assert again == first != second
    assert ranks[0][0] != ranks[1][0]
    assert ranks[0][1] != ranks[1][1]


def test_all_ranks_have_the_items_that_the_first_draws(train_cli: Cli, tmp_path: Path) -> None:
    """Of batches that are found by the embeddings of the moment."""
    kind = ("batches=magnet", "loss=magnet", "batches.images_per_cluster=2", "data.batch_size=16")
    noted = tmp_path / "items"
    words = [word for word in command("naive", "device=cpu_ddp") if word != NET and not word.startswith("loss")]
    own = (
        "model._target_=support.accumulating.biased_net",
        "+callbacks.extra.x._target_=support.accumulating.NotedItems",
    )
    train_cli(*kind, *words, *own, f"hydra.run.dir={tmp_path / 'run'}", **TESTS, NOTED_ITEMS=str(noted))
    first, second = (Path(f"{noted}.{rank}").read_text().splitlines() for rank in range(2))
    assert first == second
    assert len(set(first)) >= 2


def test_what_a_loss_draws_after_the_network_is_common_to_all_ranks() -> None:
    def rank(number: int, world: int = 2) -> list[torch.Tensor]:
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        trainer: Any = SimpleNamespace(world_size=world, global_rank=number, strategy=strategy)
        learner = Learner(torch.nn.Dropout(), Objective("x", TripletLoss(), KoLeo(), 0.0), Triplets().layout, trainer)
        torch.manual_seed(0)
        return [learner.embed(torch.ones(64)), torch.rand(3), learner.embed(torch.ones(64)), torch.rand(3)]

    one, other = rank(0), rank(1)
    for place in (1, 3):
        assert torch.equal(one[place], other[place])
    for place in (0, 2):
        assert not torch.equal(one[place], other[place])
    assert not torch.equal(one[0], one[2])
    assert all(torch.equal(*pair) for pair in zip(one, rank(0), strict=True))


def test_exact_synchronises_gradients_once_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reductions: list[int] = []

    def count(state, bucket):  # DDP looks at annotations, and wants none that are text
        reductions.append(bucket.buffer().numel())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # Lightning sets them; they are to be gone after this test
        monkeypatch.delenv(name)
    module, data = make("loss=triplet_koleo", batch_size=4, accumulation=Exact())
    try:
        hook = LambdaCallback(on_train_start=lambda trainer, _: trainer.strategy.model.register_comm_hook(None, count))
        kept: Keeper = fit(module, data, tmp_path, window=3, callbacks=[hook], strategy="ddp", devices=1)
    finally:
        torch.distributed.destroy_process_group()
    assert reductions == [sum(p.numel() for p in module.parameters())] * len(kept.gradients)
    expected, _ = exactly("loss=triplet_koleo", batch_size=4, window=3, where=tmp_path)
    assert_close(weights(module), weights(expected), 1e-12)


def test_the_ranks_parts_are_the_micro_batch() -> None:
    """11 items over 3 ranks: 3, 4 and 4, each item whole and on one rank."""
    layout, count = Triplets().layout, 11
    rows = torch.arange(3 * count)
    batch = Batch(rows, rows % 5, None, torch.rand(3 * count, 3))
    parts = [next(iter(RankLoader([batch], layout, rank, 3))) for rank in range(3)]
    assert [len(part.labels) // 3 for part in parts] == [3, 4, 4]
    assert torch.equal(layout.join([part.images for part in parts]), rows)
    assert torch.equal(layout.join([part.draws for part in parts if part.draws is not None]), batch.draws)
    for part in parts:
        anchors, positives, negatives = (part.images[index] for index in part.tuples or ())
        assert torch.equal(positives, anchors + count)
        assert torch.equal(negatives, anchors + 2 * count)
