"""What scripts/models.py says of a network, against sums by hand and what torchvision has published."""

from __future__ import annotations

import pytest
import torchvision
from hydra import compose, initialize_config_dir
from support.processes import ROOT, Cli

from siamese.commands.model_table import Described, describe
from siamese.config.validate import validate
from siamese.errors import ConfigError


def described(model: str, *words: str) -> Described:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return describe(model, validate(compose("train", ["name=test", f"model={model}", *words])))


@pytest.mark.parametrize("architecture", ["resnet18", "vit_b_32", "swin_t", "densenet121", "regnet_x_400mf"])
def test_parameters_and_operations_are_those_that_torchvision_has_published(architecture: str) -> None:
    found = described("torchvision", f"model.architecture={architecture}", "data.image_size=224")
    published = torchvision.models.get_model_weights(architecture).DEFAULT.meta
    features, classes = found.stages[-1].parameters // 128 - 1, 1000
    classifier = (features + 1) * classes
    assert found.parameters == published["num_params"] - classifier + (features + 1) * 128
    giga = 2 * (published["_ops"] - (classes - 128) * features / 1e9)  # there an addition comes with a multiplication
    assert found.flop / 1e9 == pytest.approx(giga, rel=0.01)


def test_stages_and_operations_of_a_small_network_by_hand() -> None:
    found = described("conv_small", "model.width=2", "data.image_size=[16,32]", "model.embedding_dim=5")
    assert [stage.shape for stage in found.stages] == [(2, 16, 32), (4, 8, 16), (8, 4, 8), (8, 2, 4), (8, 2, 4), (5,)]
    assert [stage.name for stage in found.stages] == ["0", "1", "2", "3", "4", "projection"]
    channels, places = [3, 2, 4, 8, 8], [16 * 32, 16 * 32, 8 * 16, 4 * 8]  # each pools after its convolution
    weights = [9 * channels[i] * channels[i + 1] for i in range(4)]
    assert found.flop == 2 * (sum(w * p for w, p in zip(weights, places, strict=True)) + 8 * 5)
    assert [stage.parameters for stage in found.stages[:4]] == [
        w + 2 * c for w, c in zip(weights, channels[1:], strict=True)
    ]
    assert found.parameters == sum(stage.parameters for stage in found.stages)


def test_a_size_that_a_network_cannot_embed_is_said() -> None:
    with pytest.raises(ConfigError, match=r"^data.image_size=20: model=alexnet cannot embed images of this size \("):
        described("alexnet", "model.stem=native", "data.image_size=20")


def test_the_command_shows_all_or_the_stages_of_one(cli: Cli) -> None:
    one = cli("scripts/models.py", "conv_small", "model.width=4", "data.image_size=16").stdout
    assert "an image of 16x16 pixels" in one
    assert "4×16×16" in one
    two = cli("scripts/models.py", "model=conv_small", "mlp", "model.embedding_dim=7").stdout.splitlines()
    assert [line.split()[0] for line in two[2:]] == ["conv_small", "mlp"]
    assert all(line.split()[-1] == "7" for line in two[2:])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["resnet81"], "resnet81: no such option of conf/model; did you mean 'resnet18'?"),
        (["zzz"], "zzz: no such option of conf/model; expected alexnet, conv_small, conv_whitened, densenet121, "),
        (["timm"], "model.name: a value is required (write model.name=VALUE)"),
        (["resnet9", "model.widht=3"], "did you mean 'model.width'?"),
        (["resnet9", "mlp", "model.dropout=0.2"], "unknown key 'model.dropout'"),
    ],
)
def test_what_there_is_not_is_refused_in_a_line(words: list[str], says: str, cli: Cli) -> None:
    done = cli("scripts/models.py", *words, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert says in done.stderr
