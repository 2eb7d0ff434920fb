"""Rates of the backbone and of its layers, and a backbone that is frozen at first."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
from support.accumulating import make as make_module
from support.images import write_folder
from support.processes import Cli
from torch import nn

from siamese.config.schema import Config
from siamese.errors import ConfigError
from siamese.models import EmbeddingNet, conv_small, resnet9
from siamese.models.layers import layers
from siamese.runs.checkpoint import read_checkpoint
from siamese.training.groups import Groups, make_optimizer, rate_of_backbone, trained
from siamese.training.muon import Muon
from siamese.training.schedule import schedule
from siamese.training.thawing import Thawing

MEAN, STD = [0.5] * 3, [0.25] * 3
ADAMW = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.5, "decay": "weights"}


def rates(net: nn.Module, groups: Groups, default: float = 0.1) -> dict[str, float]:
    """The rate of each parameter of ``net``, each of which is in one group."""
    names = {id(p): name for name, p in net.named_parameters()}
    found = [(names[id(p)], group.get("lr", default)) for group in groups for p in group["params"] if id(p) in names]
    assert len(found) == len(names)
    return dict(found)


def test_the_backbone_has_its_own_rate_and_all_else_the_optimizers() -> None:
    net, proxies = conv_small(MEAN, STD, 5, width=4), nn.ParameterList([torch.randn(3, 5)])
    groups = trained(net, proxies, 0.7, 0.01)
    for name, rate in rates(net, groups).items():
        assert rate == (0.01 if name.startswith("backbone.") else 0.1), name
    assert groups[-1] == {"params": list(proxies), "lr": 0.7}
    optimizer = make_optimizer(ADAMW, groups)  # cut in weights and others
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.01, 0.01, 0.7]
    config = Config(scheduler={"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 1.0, "interval": "step"})
    config.scheduler["total_steps"] = None
    planned = schedule(config, optimizer, 10)
    assert planned is not None
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([1, 1, 0.1, 0.1, 7])
    turned = Muon(trained(net, proxies, None, 0.01), lr=0.1, adam_lr=0.2).param_groups
    assert [group["lr"] for group in turned] == pytest.approx([0.1, 0.2, 0.01, 0.02, 0.1])


def test_one_cycle_peaks_in_proportion_where_the_first_rate_is_the_backbones() -> None:
    net, proxies = conv_small(MEAN, STD, None, width=4), nn.ParameterList([torch.randn(3, 16)])
    optimizer = torch.optim.AdamW(trained(net, proxies, None, 0.01), lr=0.1)
    node = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "max_lr": 0.1, "total_steps": 9}
    config = Config(scheduler={**node, "total_steps": None, "interval": "step"})
    schedule(config, optimizer, 9)
    assert [group["max_lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.1])
    alone = torch.optim.AdamW([{"params": list(net.parameters()), "lr": 0.01}], lr=0.1)
    schedule(config, alone, 9)
    assert alone.param_groups[0]["max_lr"] == pytest.approx(0.01)


def encoder() -> nn.Module:
    """torchvision's ViT, as small as it gets: 16 pixels in patches of 8."""
    vit = torchvision.models.VisionTransformer(16, 8, num_layers=3, num_heads=2, hidden_dim=8, mlp_dim=8)
    vit.heads = nn.Identity()
    return vit


def test_the_rate_decays_by_layers_of_a_transformer() -> None:
    net = EmbeddingNet(encoder(), 8, 5, MEAN, STD)
    found = rates(net, trained(net, nn.Module(), None, 0.01, 0.5))
    depth = {"class_token": 4, "conv_proj": 4, "encoder.pos_embedding": 4, "encoder.ln.": 0, "projection": -1}
    depth |= {f"encoder.layers.encoder_layer_{i}.": 3 - i for i in range(3)}
    for name, rate in found.items():
        below = next(d for start, d in depth.items() if name.removeprefix("backbone.").startswith(start))
        assert rate == pytest.approx(0.1 if below < 0 else 0.01 * 0.5**below), name


@pytest.mark.parametrize(
    ("backbone", "starts"),
    [
        (torchvision.models.resnet18().layer4, ["0.conv1", "1.conv1"]),
        (resnet9(MEAN, STD, width=2).backbone, ["0.0", "1.0", "2.0.0", "3.0", "4.0", "5.0.0", "6"]),
        (nn.Linear(2, 2), [""]),
    ],
)
def test_layers_are_blocks(backbone: nn.Module, starts: list[str]) -> None:
    names = {id(p): name for name, p in backbone.named_parameters()}
    found = layers(backbone)
    assert [names[id(layer[0])].rpartition(".")[0] for layer in found] == starts
    assert [id(p) for layer in found for p in layer] == list(names)


def test_the_last_layer_has_the_optimizers_rate_where_the_backbone_has_none() -> None:
    assert rate_of_backbone({"lr": 0.3, "layer_decay": 0.9}) == 0.3
    assert rate_of_backbone({"lr": 0.3, "layer_decay": 0.9, "backbone_lr": 0.2}) == 0.2
    assert rate_of_backbone({"lr": 0.3}) is None
    with pytest.raises(ConfigError, match=r"optimizer.layer_decay=0.9: expected optimizer.lr or optimizer.backbone_lr"):
        rate_of_backbone({"layer_decay": 0.9})
    with pytest.raises(ConfigError, match=r"optimizer.backbone_lr=0.2: .* nothing but the backbone is trained"):
        trained(conv_small(MEAN, STD, None, width=4), nn.Module(), None, 0.2)


SMALL = (
    "data=digits model=conv_small model.width=4 device=cpu data.images_per_class=12 data.batch_size=20 "
    "optimizer=adamw optimizer.lr=0.01 figures.draw=false evaluation.resamples=0 trainer.max_epochs=3"
).split()
THAWED = [
    "model.freeze=backbone",
    "callbacks.unfreeze=1",
    "optimizer.backbone_lr=0.001",
    "callbacks.checkpoint_every=1",
]


def test_what_is_frozen_is_trained_from_its_epoch_on_and_gone_on_with_bit_for_bit(
    train_cli: Cli, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = train_cli(*SMALL, *THAWED, f"hydra.run.dir={whole}")
    assert done.stdout.count("epoch 2: what model.freeze kept is trained from here on (14 tensors)") == 1
    states = [read_checkpoint(whole / "checkpoints" / f"epoch-{epoch:04d}.ckpt") for epoch in (1, 2, 3)]
    weights = [state["state_dict"] for state in states if state is not None]
    moved = [
        {name for name, value in before.items() if not torch.equal(value, after[name])}
        for before, after in itertools.pairwise(weights)
    ]
    assert all("net.backbone.0.0.weight" in names and "net.backbone.0.1.running_mean" in names for names in moved)
    train_cli(*SMALL, *THAWED, "trainer.max_epochs=2", f"hydra.run.dir={cut}")
    first = read_checkpoint(cut / "checkpoints" / "epoch-0001.ckpt")
    assert first is not None
    assert len(first["optimizer_states"][0]["state"]) == 2  # of the projection alone
    assert weights[0]["net.backbone.0.1.num_batches_tracked"] == 0
    train_cli(f"resume={cut}", "trainer.max_epochs=3")
    last = read_checkpoint(cut / "checkpoints" / "last.ckpt")
    assert last is not None
    for name, value in last["state_dict"].items():
        assert torch.equal(value, weights[2][name]), name
    with open(cut / "metrics.csv") as file:
        assert {row["lr"] for row in csv.DictReader(file)} <= {"", "0.01"}
    assert json.loads((cut / "status.json").read_text())["state"] == "completed"


def test_what_goes_on_within_an_epoch_is_thawed_at_once(tmp_path: Path) -> None:
    module, _ = make_module("loss=triplet", batch_size=3)
    module.net.freeze("backbone")
    thawing, trainer = Thawing(2), SimpleNamespace(current_epoch=1)
    thawing.on_train_start(trainer, module)  # type: ignore[arg-type]
    assert not module.net.backbone.conv.weight.requires_grad
    trainer.current_epoch = 2
    thawing.on_train_start(trainer, module)  # type: ignore[arg-type]
    assert module.net.backbone.conv.weight.requires_grad


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["callbacks.unfreeze=1"], "callbacks.unfreeze=1: expected model.freeze=backbone or a layer; found none"),
        (["model.freeze=backbone", "callbacks.unfreeze=3"], "expected fewer epochs than trainer.max_epochs=3"),
        (["model.freeze=backbone", "callbacks.unfreeze=1", "device=cpu_ddp"], "found device.devices=2; expected null"),
        (["model.freeze=backbone", "optimizer.backbone_lr=1"], "optimizer.backbone_lr=1: expected null, or callbacks"),
        (["optimizer.layer_decay=1"], "optimizer.layer_decay=1: expected a fraction above 0 and below 1"),
        (["optimizer.backbone_lr=0"], "optimizer.backbone_lr=0: expected a number above 0"),
        (["optimizer.backbone_rate=1"], "did you mean 'optimizer.backbone_lr'?"),
    ],
)
def test_rates_and_thaws_of_nothing_are_refused(words: list[str], says: str, train_cli: Cli, tmp_path: Path) -> None:
    done = train_cli(*SMALL, *words, f"hydra.run.dir={tmp_path / 'run'}", check=False)
    assert done.returncode == 2
    assert says in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("fine_tune", ["model=resnet18_native", "trainer.max_epochs=2", "data.triplets=resampled"]),
        ("open_set", ["trainer.max_epochs=1", "data.val_fraction=0.34", "data.test_fraction=0.34"]),
    ],
)
def test_the_experiments_of_fine_tuning_train(
    experiment: str, words: list[str], train_cli: Cli, tmp_path: Path
) -> None:
    photos = write_folder(tmp_path / "photos", dict.fromkeys("abcdef", 12))
    small = ["model.pretrained=false", "data.image_size=32", "data.batch_size=8", "figures.draw=false", "device=cpu"]
    where = [f"data.root={photos}", f"data.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}"]
    train_cli(
        f"experiment={experiment}", *words, *small, *where, "evaluation.resamples=0", "callbacks.checkpoint_every=1"
    )
    states = [read_checkpoint(path) for path in sorted((tmp_path / "run" / "checkpoints").glob("epoch-*.ckpt"))]
    weights = [state["state_dict"] for state in states if state is not None]
    assert len(weights) == len(states) > 0
    for state in weights:
        assert (state["net.backbone.bn1.running_mean"] == 0).all()  # as it was made: BatchNorm is kept
        assert (state["net.backbone.layer4.1.bn2.weight"] == 1).all()
    if experiment == "fine_tune":
        first, second = (state["net.backbone.layer4.1.conv2.weight"] for state in weights)
        assert not torch.equal(first, second)
    rates = [group["lr"] for group in states[0]["optimizer_states"][0]["param_groups"]]  # type: ignore[index]
    assert rates[2] == pytest.approx(rates[0] / 10)  # weights and biases of the projection, then of the backbone
