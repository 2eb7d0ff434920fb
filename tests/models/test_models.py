"""Embedding networks: shapes, normalisation inside, weights from files, what freezing keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from hydra import compose, initialize_config_dir
from support.processes import ROOT
from torch import nn

from siamese.config.targets import check_targets, make
from siamese.config.validate import validate
from siamese.errors import ConfigError, RunError
from siamese.models import EmbeddingNet, conv_small, from_torchvision, mlp, resnet9, sequential

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
OPTIONS = {file.stem: file.read_text() for file in sorted((ROOT / "conf" / "model").glob("*.yaml"))}
MODELS = [name for name, text in OPTIONS.items() if "???" not in text]  # the others want a name: see test_named.py
LIGHT = ("conv_small", "resnet9", "mlp", "sequential", "mobilenet_v3_small")


def configured(model: str, *words: str, size: int = 32) -> EmbeddingNet:
    """The network of conf/model/MODEL.yaml, from random weights."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = validate(compose("train", ["name=test", f"model={model}", "model.pretrained=false", *words]))
    check_targets(config)
    net = make("model", config.model, mean=MEAN, std=STD, image_size=size)
    assert isinstance(net, EmbeddingNet)
    return net


def images(count: int, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", MODELS)
def test_every_model_embeds_small_images(model: str) -> None:
    net = configured(model, "model.embedding_dim=24").eval()
    z = net(images(3))
    assert z.shape == (3, 24)
    assert net.embedding_dim == 24
    assert z.dtype == torch.float32
    assert torch.allclose(z.norm(dim=1), torch.ones(3), atol=1e-6)
    z = net.train()(images(3))  # BatchNorm in use: random deep networks else send every image to one place
    assert not torch.allclose(z[0], z[1], atol=1e-3)
    assert net.projection(torch.zeros(1, net.projection.in_features)).shape == (1, 24)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("model", LIGHT)
def test_other_sizes_and_precisions(model: str) -> None:
    net = configured(model, "model.embedding_dim=24", size=64).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).dtype == torch.float32
    assert net.double()(images(2, 64)).dtype == torch.float64


@pytest.mark.parametrize("model", ["conv_small", "mlp"])
def test_without_projection_or_normalisation_the_embedding_is_the_features(model: str) -> None:
    net = configured(model, "model.embedding_dim=null", "model.normalize=false", "model.width=16").eval()
    x = (images(4).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    features = net.backbone(x)
    expected = features.mean((2, 3)) if features.dim() == 4 else features
    assert torch.allclose(net(images(4)), expected, atol=1e-5)
    assert net.embedding_dim == expected.shape[1] == (64 if model == "conv_small" else 16)


def test_vgg11_is_the_articles() -> None:
    """torchvision's features, flattened, a linear layer to 128, L2: written out on one image."""
    torch.manual_seed(0)
    net = configured("vgg11").eval()
    image = images(1)
    x = torchvision.transforms.functional.normalize(image.float() / 255, MEAN, STD)
    features = net.backbone(x).flatten(1)
    assert features.shape == (1, 512)
    expected = nn.functional.normalize(net.projection(features), p=2, dim=1)
    assert torch.allclose(net(image), expected, atol=1e-6)


def test_the_mlp_is_three_layers_with_dropout_between() -> None:
    torch.manual_seed(0)
    net = mlp([0.0] * 3, [1.0] * 3, None, image_size=28, normalize=False, grey=True)
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(784, 128), (128, 128), (128, 128)]
    assert all((m.bias == 0).all() and m.weight.abs().max() <= (6 / (m.in_features + 128)) ** 0.5 for m in linear)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.1, 0.1]
    grey = images(5, 28)[:, :1]
    h = grey.double().flatten(1) / 255
    for m in linear:
        h = torch.relu(h @ m.weight.double().t() + m.bias.double())
    assert torch.allclose(net.eval()(grey.expand(-1, 3, -1, -1)).double(), h, atol=1e-5)


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "mobilenet_v3_small", "alexnet"])
def test_the_native_backbone_computes_what_torchvision_does(architecture: str) -> None:
    torch.manual_seed(0)
    whole = torchvision.models.get_model(architecture).eval()
    seen: list[torch.Tensor] = []
    last = whole.avgpool if hasattr(whole, "avgpool") else whole.classifier
    last.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    net = from_torchvision(MEAN, STD, architecture=architecture)
    load_state(net, whole)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        whole(x)
        found = net.eval().backbone(x)
    if seen[0].dim() == 2:  # DenseNet pools in its forward
        found = nn.functional.adaptive_avg_pool2d(found, 1).flatten(1)
    assert torch.allclose(found, seen[0], atol=1e-5)
    assert net.projection.in_features == found.shape[1]


def load_state(net: EmbeddingNet, whole: nn.Module) -> None:
    own = {k.removeprefix("features."): v for k, v in whole.state_dict().items()}
    net.backbone.load_state_dict({k: own[k] for k in net.backbone.state_dict()})


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v3_small"])
def test_weights_come_from_a_state_dict_of_torchvision(architecture: str, tmp_path: Path) -> None:
    official = torchvision.models.get_model(architecture)
    state = {k: v for k, v in official.state_dict().items() if not k.endswith("num_batches_tracked")}  # as old files
    torch.save(state, tmp_path / "weights.pth")
    net = from_torchvision(MEAN, STD, architecture=architecture, weights=str(tmp_path / "weights.pth"))
    expected = {k.removeprefix("features."): v for k, v in official.state_dict().items()}
    for name, value in net.backbone.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_densenet_files_with_the_old_names_load(tmp_path: Path) -> None:
    state = torchvision.models.densenet121().state_dict()
    old = {k.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v for k, v in state.items()}
    assert set(old) != set(state)
    torch.save(old, tmp_path / "densenet121.pth")
    net = from_torchvision(MEAN, STD, architecture="densenet121", weights=str(tmp_path / "densenet121.pth"))
    for name, value in net.backbone.state_dict().items():
        assert torch.equal(value, state[f"features.{name}"])


def test_weights_come_from_a_checkpoint_of_a_run(tmp_path: Path) -> None:
    net = conv_small(MEAN, STD, width=4)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "best.ckpt")
    again = conv_small(MEAN, STD, 7, width=4, weights=str(tmp_path / "best.ckpt"))
    for name, value in again.backbone.state_dict().items():
        assert torch.equal(value, net.backbone.state_dict()[name])


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.alexnet().state_dict(), path)
    with pytest.raises(RunError, match="not the weights of torchvision's mobilenet_v3_small; it lacks feat"):
        from_torchvision(MEAN, STD, architecture="mobilenet_v3_small", weights=str(path))
    torch.save(conv_small(MEAN, STD, width=4).backbone.state_dict(), path)
    with pytest.raises(RunError, match=r"model.width=8; it has other shapes"):
        conv_small(MEAN, STD, width=8, weights=str(path))
    with pytest.raises(RunError, match=r"not the weights of resnet9"):
        resnet9(MEAN, STD, width=4, weights=str(path))
    torch.save([1, 2], path)
    with pytest.raises(RunError, match=r"not the weights of conv_small with model.width=4; it lacks"):
        conv_small(MEAN, STD, width=4, weights=str(path))


def test_what_is_reset_starts_at_random_and_loads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def download(*_: Any, **__: Any) -> None:
        raise AssertionError("nothing is to be downloaded")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", download)
    torch.manual_seed(0)
    net = from_torchvision(MEAN, STD, architecture="alexnet", pretrained=True, reset_parameters=True)
    first = net.backbone[0]
    bound = first.weight[0].numel() ** -0.5  # torch's own: uniform within it
    assert 0.98 * bound < first.weight.abs().max() <= bound
    assert first.bias.abs().max() > 0
    with pytest.raises(ConfigError, match=r"model.weights=x: expected null with model.reset_parameters=true"):
        conv_small(MEAN, STD, weights="x", reset_parameters=True)


def test_pretrained_weights_are_those_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state)
    net = from_torchvision(MEAN, STD, architecture="resnet18", stem="small", pretrained=True)
    assert torch.equal(net.backbone.conv1.weight, state["conv1.weight"])
    assert net.backbone.conv1.stride == (1, 1)
    with pytest.raises(ConfigError, match=r"no pretrained weights of conv_small with model.width=4; expected"):
        conv_small(MEAN, STD, width=4, pretrained=True)


# -- freezing --------------------------------------------------------------------------------------


def trained_once(net: EmbeddingNet) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The state before and after a step in training mode."""
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5, weight_decay=0.1)
    net(images(6)).square().mul(torch.randn(net.embedding_dim)).sum().backward()
    optimizer.step()
    return before, net.state_dict()


@pytest.mark.parametrize(
    ("model", "upto", "kept", "free"),
    [
        ("conv_small", "none", (), ("backbone.0.0", "projection.weight")),
        ("conv_small", "backbone", ("backbone.",), ("projection.weight",)),
        ("conv_small", "1", ("backbone.0.", "backbone.1."), ("backbone.2.0.weight", "backbone.2.2.running_mean")),
        ("conv_small", "1.0", ("backbone.0.", "backbone.1.0."), ("backbone.1.2.weight", "backbone.1.2.running_mean")),
        (
            "mobilenet_v3_small",
            "3",
            tuple(f"backbone.{i}." for i in range(4)),
            ("backbone.4.block.0.0.weight", "backbone.12.1.running_var"),
        ),
        ("mobilenet_v3_small", "features", ("backbone.",), ("projection.weight",)),
        ("alexnet", "features.3", ("backbone.0.", "backbone.3."), ("backbone.6.", "projection.weight")),
        ("resnet18", "layer1", ("backbone.conv1.", "backbone.bn1", "backbone.layer1"), ("backbone.layer2.0.conv1",)),
    ],
)
def test_what_is_frozen_stays_and_the_rest_learns(
    model: str, upto: str, kept: tuple[str, ...], free: tuple[str, ...]
) -> None:
    torch.manual_seed(0)
    before, after = trained_once(configured(model, f"model.freeze={upto!r}" if "." in upto else f"model.freeze={upto}"))
    for name, value in before.items():
        if name.startswith(kept) and kept:
            assert torch.equal(value, after[name]), name
    for start in free:
        assert any(not torch.equal(v, after[k]) for k, v in before.items() if k.startswith(start)), start


def test_frozen_batchnorm_and_dropout_stay_in_evaluation_mode() -> None:
    layers = ["Dropout", "BatchNorm2d", {"Conv2d": {"out_channels": 4, "kernel_size": 3}}, "Dropout", "BatchNorm2d"]
    net = sequential(MEAN, STD, 5, image_size=8, layers=layers, freeze="2")
    for mode in (True, False, True):
        net.train(mode)
        assert [layer.training for layer in net.backbone] == [False, False, False, mode, mode]
        assert net.training is mode
    net.backbone[3].p = 0.0
    net.train()
    assert torch.equal(net(images(4, 8)), net(images(4, 8)))  # no dropout of what is frozen


@pytest.mark.parametrize(
    ("upto", "says"),
    [
        ("layer9", r"model.freeze=layer9: expected none, backbone, or a layer .* conv1, bn1, .*did you mean 'layer"),
        ("Backbone", r"did you mean 'backbone'"),
        ("layer", r"model.freeze=layer: expected none"),
        ("features", r"model.freeze=features: expected none"),
    ],
)
def test_a_freeze_that_names_no_layer_is_refused(upto: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        from_torchvision(MEAN, STD, architecture="resnet18", freeze=upto)


def test_the_nearest_name_may_be_the_published_one() -> None:
    with pytest.raises(ConfigError, match=r"model.freeze=feature: .*did you mean 'features'\?$"):
        from_torchvision(MEAN, STD, architecture="alexnet", freeze="feature")


class Tokens(nn.Module):
    """A layer with a parameter of its own beside two others below it, as transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(3, 1, 1))
        self.first, self.second = nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x) + self.token)


def test_what_is_frozen_includes_parameters_of_no_layer_and_thaws_again() -> None:
    net = EmbeddingNet(Tokens(), 4, 5, MEAN, STD)
    trains = lambda: {name for name, p in net.backbone.named_parameters() if p.requires_grad}  # noqa: E731
    every = trains()
    net.backbone.second[0].bias.requires_grad_(False)  # by whoever made it
    net.freeze("first")
    assert trains() == {"second.0.weight", "second.1.weight", "second.1.bias"}
    modes = {name: module.training for name, module in net.backbone.named_modules()}
    assert modes == {"": True, "first": False, "second": True, "second.0": True, "second.1": True}
    net.freeze("backbone")
    assert not trains()
    assert not any(module.training for module in net.backbone.modules())
    net = EmbeddingNet(Tokens(), 4, 5, MEAN, STD)
    net.backbone.second[0].bias.requires_grad_(False)
    net.freeze("backbone")
    net.train()
    net.thaw()
    assert trains() == every - {"second.0.bias"}
    assert all(module.training for module in net.modules())


def test_frozen_batchnorm_keeps_its_statistics_and_scales_while_all_else_learns() -> None:
    torch.manual_seed(0)
    net = conv_small(MEAN, STD, 5, width=4, freeze="1", freeze_batchnorm=True)
    norms = [m for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    net.train()
    assert len(norms) == 5
    assert not any(m.training for m in norms)
    assert net.backbone[2].training
    net.thaw()  # of what freeze keeps; not of these
    assert not any(m.training or m.weight.requires_grad for m in norms)
    before, after = trained_once(net)
    of_norms = {f"backbone.{name}" for name, m in net.backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, value in before.items():
        if name not in ("mean", "std"):
            assert torch.equal(value, after[name]) is (name.rpartition(".")[0] in of_norms), name


def test_there_is_no_batchnorm_to_freeze_where_there_is_none() -> None:
    with pytest.raises(
        ConfigError, match=r"model.freeze_batchnorm=true: the backbone has no BatchNorm; expected false"
    ):
        mlp(MEAN, STD, freeze_batchnorm=True)
    with pytest.raises(ConfigError, match=r"model.freeze_batchnorm=true: nothing is left to train"):
        sequential(MEAN, STD, None, image_size=8, layers=["BatchNorm2d"], freeze_batchnorm=True)


def test_a_network_with_nothing_left_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model.freeze=backbone: with model.embedding_dim=null nothing is left"):
        conv_small(MEAN, STD, None, width=4, freeze="backbone")


# -- sequential ------------------------------------------------------------------------------------


def test_sequential_is_the_layers_that_are_listed() -> None:
    text = """
    - Conv2d: {out_channels: 6, kernel_size: [3, 3], stride: 2}
    - BatchNorm2d
    - LeakyReLU: {negative_slope: 0.2}
    - AdaptiveAvgPool2d: {output_size: 2}
    - Flatten
    - Linear: {out_features: 10, bias: false}
    """
    net = sequential(MEAN, STD, None, image_size=20, normalize=False, layers=yaml.safe_load(text)).eval()
    conv, bn, relu, _, _, linear = net.backbone
    assert (conv.in_channels, linear.in_features, linear.bias, relu.negative_slope) == (3, 24, None, 0.2)
    assert (bn.running_mean == 0).all()
    assert bn.num_batches_tracked == 0
    x = (images(3, 20).float() - net.mean) / net.std
    h = nn.functional.conv2d(x, conv.weight, conv.bias, stride=2) / (1 + 1e-5) ** 0.5
    h = nn.functional.adaptive_avg_pool2d(nn.functional.leaky_relu(h, 0.2), 2).flatten(1) @ linear.weight.t()
    assert torch.allclose(net(images(3, 20)), h, atol=1e-5)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        (["Conv3d"], r"model.layers\[0\]=Conv3d: expected one of Conv2d, .*did you mean 'Conv2d'"),
        (["os.system"], r"model.layers\[0\]=os.system: expected one of Conv2d"),
        ([{"Conv2d": {"out_channel": 3}}], r"'model.layers\[0\].Conv2d.out_channel': .*did you mean 'out_channels'"),
        ([{"Conv2d": {"in_channels": 3}}], r"unknown key 'model.layers\[0\].Conv2d.in_channels'"),
        ([{"Conv2d": {"out_channels": 8}}], r"model.layers\[0\]: Conv2d cannot be made .*kernel_size"),
        (["ReLU", {"Dropout": {"p": "half"}}], r"model.layers\[1\].Dropout.p=half: expected float, found str"),
        ([{"MaxPool2d": {"kernel_size": 99}}], r"model.layers\[0\]: MaxPool2d cannot be made of or for 3x8x8"),
        (["Flatten", "BatchNorm2d"], r"model.layers\[1\]: BatchNorm2d cannot be made of or for 192 \(expected 4D"),
        ([{"Flatten": {"start_dim": 2}}], r"expected to end with \[N, F\] or \[N, F, h, w\], found 3 dimensions"),
        ([{"ReLU": {}, "Tanh": {}}], r"expected NAME, or NAME: \{ARGUMENT: VALUE"),
        ([7], r"model.layers\[0\]=7: expected NAME"),
        ([{"Linear": 7}], r"expected NAME, or NAME"),
    ],
)
def test_layers_that_cannot_be_are_refused(layers: list[Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        sequential(MEAN, STD, image_size=8, layers=layers)
    assert len(str(raised.value).splitlines()) == 1


# -- options on the command line -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("model=resnet18 model.stem=tiny", "model.stem=tiny: expected one of native, small, found str"),
        ("model=torchvision", "model.architecture: a value is required (write model.architecture=VALUE)"),
        ("model=resnet18 +model.image_size=3", "unknown key 'model.image_size'"),
        ("model=mlp model.dropout=1", "model.dropout=1: expected a fraction from 0 and below 1"),
        ("model=conv_small model.normalize=2", "model.normalize=2: expected bool, found int"),
        (
            "model=conv_small +model.kernel=2",
            "unknown key 'model.kernel': siamese.models.conv_small takes embedding_dim",
        ),
        ("model=sequential model.layers=3", "model.layers=3: expected a list, found int"),
    ],
)
def test_options_are_checked_before_anything_is_built(words: str, says: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", ["name=test", *words.split()])
    with pytest.raises(ConfigError) as raised:
        check_targets(validate(composed))
    assert says in str(raised.value)


def test_every_model_has_the_shared_options() -> None:
    shared = {
        "embedding_dim",
        "normalize",
        "pretrained",
        "weights",
        "weights_part",
        "reset_parameters",
        "freeze",
        "freeze_batchnorm",
    }
    for model, text in OPTIONS.items():
        assert shared <= yaml.safe_load(text).keys(), model
