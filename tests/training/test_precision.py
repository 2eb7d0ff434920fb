"""What device.precision=auto is on machines of several kinds, and what a run records of it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch
import yaml
from support.accumulating import config
from support.processes import Cli

from siamese.training import precision
from siamese.training.precision import cost_of_bf16, has_bf16, precision_of, settled


def asked(name: str, accelerator: str = "cpu") -> object:
    whole = config()
    return dataclasses.replace(whole, device=dataclasses.replace(whole.device, accelerator=accelerator, precision=name))


@pytest.mark.parametrize(
    ("features", "expected", "why"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "bf16-mixed", "this CPU has AMX and AVX512-BF16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "bf16-mixed", "this CPU has AVX512-BF16"),
        ({"avx2": True}, "32-true", "this CPU has neither AMX nor AVX512-BF16"),
    ],
)
def test_a_cpu_is_asked_what_it_has(
    features: dict[str, bool],
    expected: str,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    caplog.set_level(logging.INFO)
    found = settled(asked("auto"))  # type: ignore[arg-type]
    assert found.device.precision == expected
    assert precision_of(asked("auto")) == expected  # type: ignore[arg-type]
    assert caplog.messages == [f"device.precision=auto: {expected}, since {why}"]


@pytest.mark.parametrize(("capability", "has"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
@pytest.mark.parametrize("accelerator", ["auto", "cuda"])
def test_a_gpu_is_asked_for_its_compute_capability(
    accelerator: str, capability: tuple[int, int], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    found, why = has_bf16(accelerator)
    assert found is has
    assert f"compute capability {capability[0]}.{capability[1]}" in why
    assert ("below 8.0" in why) is not has


def test_an_apple_gpu_is_trained_in_float32() -> None:
    assert has_bf16("mps")[0] is False


def test_bfloat16_by_name_without_the_hardware_is_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(precision, "cost_of_bf16", lambda: 3.14)
    named = asked("bf16-mixed")
    assert settled(named) is named  # type: ignore[arg-type]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "neither AMX nor AVX512-BF16; a convolution took 3.1 times as long as in float32" in caplog.messages[0]
    caplog.clear()
    assert settled(asked("32-true")).device.precision == "32-true"  # type: ignore[arg-type]
    assert caplog.messages == []


def test_the_trial_measures_something() -> None:
    assert 0.01 < cost_of_bf16() < 1000


def test_a_run_records_which_it_was(train_cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_cli(
        *"data=digits model=conv_small model.width=4 data.images_per_class=12 trainer.max_epochs=1".split(),
        *("figures.draw=false", "evaluation.resamples=0", f"hydra.run.dir={run}"),
    )
    recorded = yaml.safe_load((run / "config.resolved.yaml").read_text())["device"]["precision"]
    assert recorded == ("bf16-mixed" if has_bf16("auto")[0] else "32-true")
    assert f"device.precision=auto: {recorded}, since this " in (run / "train.log").read_text()
