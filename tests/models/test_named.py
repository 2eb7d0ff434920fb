"""Networks by the names that torchvision and timm have for them."""

from __future__ import annotations

import builtins
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from support.processes import Cli
from torch import Tensor, nn

from siamese.errors import ConfigError
from siamese.models import from_timm, from_torchvision
from siamese.models.layers import layers
from siamese.models.pretrained import _interpolated

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
CLASSIFIERS = torchvision.models.list_models(module=torchvision.models)
# One of each family, as small as it has; a RegNet cannot be made without its numbers.
FAMILIES = {
    "alexnet": 64,
    "convnext_tiny": 32,
    "efficientnet_v2_s": 32,
    "googlenet": 32,
    "inception_v3": 96,
    "maxvit_t": 224,
    "mnasnet0_5": 32,
    "mobilenet_v2": 32,
    "regnet_x_400mf": 32,
    "resnext50_32x4d": 32,
    "shufflenet_v2_x0_5": 32,
    "squeezenet1_1": 32,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vgg13": 32,
    "vit_b_32": 64,
    "wide_resnet50_2": 32,
}


def features(architecture: str, size: int) -> tuple[tuple[int, ...], int]:
    """The shape of what the backbone makes of an image, and what the projection expects, on numbers that are not there
    where that can be."""
    with torch.device("cpu" if architecture.startswith("regnet") else "meta"):
        net = from_torchvision(MEAN, STD, 5, image_size=size, architecture=architecture).eval()
        return tuple(net.backbone(torch.zeros(1, 3, size, size)).shape), net.projection.in_features


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_family_of_torchvision_embeds(architecture: str) -> None:
    shape, expected = features(architecture, FAMILIES[architecture])
    assert shape[1] == expected
    assert len(shape) in (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [a for a in CLASSIFIERS if "gf" not in a and a not in FAMILIES])
def test_every_network_of_torchvision_embeds(architecture: str) -> None:
    shape, expected = features(architecture, 224)
    assert shape[1] == expected


def test_all_of_torchvision_are_of_these_families() -> None:
    of_families = tuple(name.partition("_")[0].rstrip("0123456789") for name in [*FAMILIES, "densenet", "resnet"])
    assert [name for name in CLASSIFIERS if not name.startswith((*of_families, "mnasnet"))] == []


@pytest.mark.parametrize("architecture", ["shufflenet_v2_x0_5", "mnasnet0_5", "googlenet", "regnet_x_400mf"])
def test_the_backbone_computes_what_the_classifier_gets_and_takes_published_weights(
    architecture: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    aux = {"init_weights": False, "transform_input": True} if architecture == "googlenet" else {}
    whole = torchvision.models.get_model(architecture, **aux).eval()
    torch.save(whole.state_dict(), tmp_path / "weights.pth")
    caplog.set_level(logging.INFO, "siamese.models.weights")
    net = from_torchvision(MEAN, STD, architecture=architecture, weights=str(tmp_path / "weights.pth")).eval()
    unused = {"googlenet": "22 entries (aux1.", "mnasnet0_5": "2 entries (classifier.1.bias"}
    assert unused.get(architecture, "2 entries (fc.bias, fc.weight)") in caplog.text
    seen: list[Tensor] = []
    last = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        whole(x)
        found = net.backbone(x)
    assert torch.allclose(found.mean((2, 3)) if found.dim() == 4 else found, seen[0], atol=1e-5)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            {"architecture": "resnet19"},
            r"model.architecture=resnet19: torchvision has no .* of \d+; did you mean 'resnet1",
        ),
        ({"architecture": "fcn_resnet50"}, r"no such network for classification"),
        ({"architecture": "vit_b_16", "stem": "small"}, r"model.stem=small: vit_b_16 cuts images into patches; exp"),
        (
            {"architecture": "vit_b_16", "image_size": 40},
            r"data.image_size=40: vit_b_16 cannot be made .*\(Input shape",
        ),
        ({"architecture": "vit_b_16", "image_size": [32, 64]}, r"data.image_size=\[32, 64\]: vit_b_16 takes square"),
        ({"architecture": "maxvit_t", "image_size": 100}, r"data.image_size=100: maxvit_t cannot be made for images"),
    ],
)
def test_what_torchvision_cannot_make_is_refused_in_a_line(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised, torch.device("meta"):
        from_torchvision(MEAN, STD, **words)
    assert len(str(raised.value).splitlines()) == 1


def test_the_stem_of_googlenet_keeps_small_images() -> None:
    with torch.device("meta"):
        small = from_torchvision(MEAN, STD, architecture="googlenet", stem="small").backbone
    assert small.conv1.conv.stride == (1, 1)
    assert isinstance(small.maxpool1, nn.Identity)


def vit(size: int) -> Any:
    return torchvision.models.VisionTransformer(size, 4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)


def test_positions_of_a_vit_are_interpolated(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = vit(24), vit(16)
    theirs.encoder.pos_embedding.data.normal_()
    caplog.set_level(logging.INFO, "siamese.models.pretrained")
    state = _interpolated(ours)(dict(theirs.state_dict()))
    assert "17 positions of the weights is interpolated to 37" in caplog.text
    grid = theirs.encoder.pos_embedding[:, 1:].permute(0, 2, 1).view(1, 8, 4, 4)
    larger = nn.functional.interpolate(grid, 6, mode="bicubic", align_corners=True).flatten(2).permute(0, 2, 1)
    assert torch.allclose(state["encoder.pos_embedding"][:, 1:], larger)
    assert torch.equal(state["encoder.pos_embedding"][:, 0], theirs.encoder.pos_embedding[:, 0])
    same = dict(ours.state_dict())
    assert _interpolated(ours)(same) is same


# -- timm ------------------------------------------------------------------------------------------


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return importing(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"^model=timm: timm is not installed; pip install -e '\.\[timm\]'"):
        from_timm(MEAN, STD, name="resnet18")


@pytest.mark.parametrize(
    ("name", "size"),
    [("test_resnet", 40), ("test_vit", 64), ("test_convnext", 64), ("mobilenetv3_small_050", 32), ("resnet10t", 32)],
)
def test_a_network_of_timm_embeds_as_timm_does(name: str, size: int) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = from_timm(MEAN, STD, 5, image_size=size, name=name, normalize=False).eval()
    wanted = timm.get_pretrained_cfg(name)
    image = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    x = torchvision.transforms.functional.normalize(image / 255, wanted.mean, wanted.std)
    whole = timm.create_model(name, **({"img_size": size} if "vit" in name else {})).eval()
    whole.load_state_dict(net.backbone.state_dict(), strict=False)
    features = whole.forward_head(whole.forward_features(x), pre_logits=True)
    assert torch.allclose(net(image), net.projection(features), atol=1e-4)
    assert torch.equal(net.train()(image).isfinite(), torch.ones(2, 5, dtype=torch.bool))


def test_the_layers_and_names_of_a_transformer_of_timm() -> None:
    pytest.importorskip("timm")
    net = from_timm(MEAN, STD, 5, image_size=64, name="test_vit", freeze="blocks.1")
    free = {name.partition(".")[0] for name, p in net.backbone.named_parameters() if p.requires_grad}
    assert "pos_embed" not in free
    assert "patch_embed" not in free
    blocks = len(net.backbone.blocks)
    assert len(layers(net.backbone)) == blocks + 2  # patches before, a norm behind
    with pytest.raises(ConfigError, match=r"model.freeze=block: .*did you mean 'blocks'"):
        from_timm(MEAN, STD, 5, image_size=64, name="test_vit", freeze="block")


def test_pretrained_weights_and_files_are_timms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    create, asked = timm.create_model, []

    def local(name: str, *, pretrained: bool = False, **rest: Any) -> nn.Module:
        asked.append(pretrained)
        torch.manual_seed(7 if pretrained else 0)
        return create(name, pretrained=False, **rest)

    monkeypatch.setattr(timm, "create_model", local)
    net = from_timm(MEAN, STD, 5, image_size=64, name="test_resnet", pretrained=True)
    assert asked == [False, True]
    expected = local("test_resnet", pretrained=True, num_classes=0).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in net.backbone.state_dict().items())
    whole = local("test_resnet").state_dict()
    torch.save(whole, tmp_path / "resnet.pth")
    again = from_timm(MEAN, STD, 5, image_size=64, name="test_resnet", weights=str(tmp_path / "resnet.pth"))
    assert all(torch.equal(value, whole[name]) for name, value in again.backbone.state_dict().items())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"name": "resnet81"}, r"model.name=resnet81: timm has no such network, of [\d,]+; did you mean 'resnet"),
        ({"name": "resnet18.a1_in2k"}, r"did you mean 'resnet18.a1_in1k'"),
        ({"name": "hf-hub:someone/something"}, r"model.name=hf-hub:someone/something: timm has no such network"),
        (
            {"name": "test_vit", "image_size": 40},
            r"data.image_size=40: test_vit .* of 16x16 pixels; .* such as data.image_size=32",
        ),
        ({"name": "test_vit", "image_size": [32, 3]}, r"data.image_size=\[32, 3\]: test_vit cuts images into patches"),
    ],
)
def test_what_timm_cannot_make_is_refused_in_a_line(words: dict[str, Any], says: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ConfigError, match=says) as raised:
        from_timm(MEAN, STD, **words)
    assert len(str(raised.value).splitlines()) == 1


def test_weights_of_timm_that_cannot_be_fetched_end_a_run_in_a_line(train_cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    small = "data=digits data.images_per_class=12 data.batch_size=20 device=cpu model=timm model.name=test_vit".split()
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "https_proxy": "http://127.0.0.1:9"}
    done = train_cli(*small, f"hydra.run.dir={tmp_path / 'run'}", check=False, **offline)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "model.pretrained=true: the weights of test_vit could not be fetched (" in last
    assert "model.weights=FILE" in last
