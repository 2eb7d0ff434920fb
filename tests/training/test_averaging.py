"""Averaged weights against the mean of the weights of every step, and who sees which."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
from support.accumulating import fit, make
from support.processes import Cli
from torch import Tensor

from siamese.data.draws import generator
from siamese.runs.checkpoint import read_checkpoint
from siamese.training.averaging import Equal, Exponential, averaged


class Noter(pl.Callback):
    """The weights before training and after each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def note(self, module: pl.LightningModule) -> None:
        self.steps.append({name: value.detach().clone() for name, value in averaged(module)})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note(pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == len(self.steps):
            self.note(pl_module)


def test_the_mean_is_over_steps_and_forgets_the_beginning(tmp_path: Path) -> None:
    module, data = make("loss=proxy_softmax", batch_size=3, more=torch.nn.BatchNorm2d(6))
    noter, averaging = Noter(), Exponential(0.6)
    fit(module, data, tmp_path, window=2, steps=11, callbacks=[averaging, noter])
    assert len(noter.steps) == 12
    assert {name.partition(".")[0] for name in noter.steps[0]} == {"net", "objective"}
    assert any(name.endswith("running_var") for name in noter.steps[0])
    for name, mean in noter.steps[0].items():
        expected = mean
        for t, step in enumerate(noter.steps[1:]):
            decay = min(0.6, (1 + t) / (10 + t))
            expected = decay * expected + (1 - decay) * step[name]
        checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
        averaging.on_save_checkpoint(None, module, checkpoint)  # type: ignore[arg-type]
        assert torch.allclose(checkpoint["state_dict"][name], expected), name
        assert torch.equal(checkpoint["raw"][name], noter.steps[-1][name]), name
    # Of a checkpoint that is written while the mean is measured, training goes on with its own weights all the same.
    averaging.on_validation_start(SimpleNamespace(state=SimpleNamespace(fn="fit")), module)  # type: ignore[arg-type]
    within: dict[str, Any] = {"state_dict": module.state_dict()}
    averaging.on_save_checkpoint(None, module, within)  # type: ignore[arg-type]
    for name, trained in noter.steps[-1].items():
        assert torch.equal(within["raw"][name], trained), name
        assert torch.equal(within["state_dict"][name], checkpoint["state_dict"][name]), name


def test_validation_and_the_best_checkpoint_are_of_the_mean_and_training_is_not(train_cli: Cli, tmp_path: Path) -> None:
    words = (
        "data=digits model=conv_small model.width=4 data.images_per_class=12 optimizer.lr=0.05 trainer.max_epochs=2 "
        "figures.draw=false evaluation.resamples=0 device.precision=32-true"
    ).split()
    train_cli(*words, f"hydra.run.dir={tmp_path / 'plain'}")
    train_cli(*words, "callbacks.ema=0.95", f"hydra.run.dir={tmp_path / 'mean'}")
    plain, mean = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("plain", "mean"))
    assert plain is not None
    assert mean is not None
    for name, value in mean["raw"].items():  # the same steps are taken, whatever is averaged
        assert torch.equal(value, plain["state_dict"][name]), name
    assert not torch.equal(mean["state_dict"]["net.projection.weight"], mean["raw"]["net.projection.weight"])
    rows = [(tmp_path / run / "metrics.csv").read_text().splitlines()[-1] for run in ("plain", "mean")]
    assert rows[0] != rows[1]
    refused = train_cli(f"resume={tmp_path / 'mean'}", "trainer.max_epochs=3", "callbacks.ema=0.5", check=False)
    assert refused.returncode == 2
    assert "callbacks.ema=0.5: resume cannot change what the run computes" in refused.stderr


@torch.no_grad()
def test_equal_averages_of_the_ends_of_epochs_and_statistics_of_their_own(tmp_path: Path) -> None:
    """Of 12 micro-batches an epoch: the plain mean of the weights after steps 24, 36 and 48, and what BatchNorm has
    seen when all training images went through it in the order drawn."""
    module, data = make("loss=proxy_softmax", batch_size=3, more=torch.nn.BatchNorm2d(6))
    noter, averaging = Noter(), Equal(2)
    batches = len(data.loader)
    torch.set_grad_enabled(True)
    fit(module, data, tmp_path, steps=4 * batches, callbacks=[averaging, noter])
    torch.set_grad_enabled(False)
    assert averaging.epochs == 3
    ends = [noter.steps[batches * epoch] for epoch in (2, 3, 4)]
    for name, value in averaging.mean.items():
        if "running" not in name:
            assert torch.allclose(value, torch.stack([end[name] for end in ends]).mean(0), rtol=1e-12), name
    for name, value in averaged(module):  # training is left alone
        assert torch.equal(value, noter.steps[-1][name]), name
    index = data.parts["train"][generator(0, "averaged statistics").permutation(len(data.parts["train"]))]
    assert len(index) % 9
    net = module.net
    net.load_state_dict(
        {name.removeprefix("net."): value for name, value in averaging.mean.items() if "net." in name}, strict=False
    )
    images = torch.as_tensor(data.source.images)[torch.from_numpy(index[: len(index) // 9 * 9])]
    seen = net.backbone.conv(net.normalised(images))  # type: ignore[union-attr, operator]
    means = torch.stack([some.mean((0, 2, 3)) for some in seen.split(9)]).mean(0)
    variances = torch.stack([some.transpose(0, 1).flatten(1).var(1) for some in seen.split(9)]).mean(0)
    assert torch.allclose(averaging.mean["net.backbone.more.running_mean"], means, rtol=1e-9)
    assert torch.allclose(averaging.mean["net.backbone.more.running_var"], variances, rtol=1e-9)


def test_a_run_measures_equal_averages_from_their_first_epoch_on(train_cli: Cli, tmp_path: Path) -> None:
    words = (
        "data=digits model=conv_small model.width=4 data.images_per_class=12 optimizer.lr=0.05 trainer.max_epochs=3 "
        "figures.draw=false evaluation.resamples=0 device.precision=32-true"
    ).split()
    for name, more in (("plain", ()), ("mean", ("callbacks.swa=0.5",))):  # of three: from the second on
        train_cli(*words, *more, f"hydra.run.dir={tmp_path / name}")
    rows = [
        [line.rpartition(",")[0] for line in (tmp_path / run / "metrics.csv").read_text().splitlines()]
        for run in ("plain", "mean")
    ]
    assert rows[0][:3] == rows[1][:3]  # the header, and epochs 0 and 1
    assert rows[0][4] != rows[1][4]
    plain, mean = (read_checkpoint(tmp_path / run / "checkpoints/last.ckpt") for run in ("plain", "mean"))
    assert plain is not None
    assert mean is not None
    for name, value in mean["raw"].items():
        assert torch.equal(value, plain["state_dict"][name]), name
    assert not torch.equal(mean["state_dict"]["net.projection.weight"], mean["raw"]["net.projection.weight"])
    refused = train_cli(f"resume={tmp_path / 'mean'}", "trainer.max_epochs=5", check=False)
    assert "trainer.max_epochs=5: callbacks.swa=0.5 is of the 3 epochs that the run began with" in refused.stderr
    for more, said in (
        ("callbacks.ema=0.9 callbacks.swa=2", "callbacks.swa=2: one mean of the weights takes their place"),
        ("callbacks.swa=4", "callbacks.swa=4: expected at most the 3 epochs of the run (trainer.max_epochs)"),
        ("callbacks.swa=0", "callbacks.swa=0: expected an epoch from 1, or a fraction"),
    ):
        done = train_cli(*words, *more.split(), check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith(f"error: {said}")
