"""What a terminal, or whatever takes its place, shows; signals; and a machine without enough memory."""

from __future__ import annotations

import logging
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.accumulating import config, fit, make

from siamese import memory
from siamese.errors import ConfigError, RunError
from siamese.memory import check_fits, check_images_fit, total_memory
from siamese.runs.directory import RunDirectory
from siamese.training import progress
from siamese.training.progress import ProgressBar, ProgressLines
from siamese.training.run import _told
from siamese.training.signals import StopRequest

LINE = re.compile(r"epoch (\d+)/(\S+)  micro-batch (\d+)/(\d+)  loss (\d\.\d{4})  (\d+) images/s  .+ left")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, ...]]:
    found = [LINE.fullmatch(record.getMessage()) for record in caplog.records]
    return [match.groups() for match in found if match]


def test_a_line_now_and_then_says_how_far_an_epoch_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    module, data = make("loss=triplet_koleo", batch_size=4)
    fit(module, data, tmp_path, steps=12, callbacks=[ProgressLines()], max_epochs=2)
    batches = len(data.loader)
    found = lines(caplog)
    assert [(epoch, of) for epoch, of, *_ in found] == [("1", "2")] * batches + [("2", "2")] * (12 - batches)
    assert [int(number) for _, _, number, *_ in found[:batches]] == list(range(1, batches + 1))
    assert {int(of) for *_, of, _, _ in found} == {batches}
    assert all(float(loss) > 0 for *_, loss, _ in found)


def test_an_epoch_of_half_a_minute_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    module, data = make("loss=triplet_koleo", batch_size=4)
    fit(module, data, tmp_path, steps=3, callbacks=[ProgressLines()])
    assert lines(caplog) == []


def test_the_bar_counts_as_the_log_does_and_carries_loss_and_what_is_monitored() -> None:
    bar = ProgressBar()
    trainer: Any = SimpleNamespace(max_epochs=2, callback_metrics={})
    bar._trainer = trainer
    assert bar.sanity_check_description == "epoch 0, before training"
    assert [bar._get_train_description(epoch) for epoch in (0, 1)] == ["epoch 1/2", "epoch 2/2"]
    module: Any = SimpleNamespace(monitor="map_at_r")
    assert bar.get_metrics(trainer, module) == {}
    bar._loss = torch.tensor(0.25)
    trainer.callback_metrics |= {"val/auc": torch.tensor(0.5), "val/map_at_r": torch.tensor(0.91237)}
    assert bar.get_metrics(trainer, module) == {"loss": "0.2500", "val/map_at_r": "0.9124"}


def test_a_terminal_that_goes_away_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGHUP)
    with StopRequest() as stop:
        stop.patient = True
        signal.raise_signal(signal.SIGHUP)
        stop.obey()
        assert stop.signal is None
    assert signal.getsignal(signal.SIGHUP) is before
    assert [record.getMessage() for record in caplog.records] == [
        "the terminal has gone away; the run goes on, and train.log has everything"
    ]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    ],
)
def test_running_out_of_memory_is_one_line(error: Exception, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(RunError, match=r"^out of memory; try a smaller data\.batch_size"), _told(run, config()):
        raise error
    assert '"failed"' in (tmp_path / "status.json").read_text()


def test_another_error_of_torch_is_a_bug_and_stays_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), _told(RunDirectory(tmp_path), config()):
        raise RuntimeError("shapes do not match")


def test_what_fits_is_measured_against_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = total_memory()
    assert there is not None
    assert there == pytest.approx(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), rel=0.01)
    check_fits("x=1", there, "it")
    with pytest.raises(ConfigError, match=r"^x=1: it would take .* GB; this machine has .* GB$"):
        check_fits("x=1", there + 1, "it")
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nowhere")
    check_images_fit(10**12, (4096, 4096))  # unknown, and so not refused
