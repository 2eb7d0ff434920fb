"""Every option composes and validates, and the configuration is what the command line says."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from support.processes import ROOT, Cli

from siamese.config.schema import KEYS, RANGES, TYPES, Config, defaults, is_scientific
from siamese.config.targets import check_targets
from siamese.config.validate import flatten, to_dict, validate
from siamese.errors import ConfigError
from siamese.training.check import job_config

OPTIONS = sorted(
    (file.parent.name, file.stem)
    for file in (ROOT / "conf").glob("*/*.yaml")
    if file.parent.name not in ("hydra", "search")
)
BENCHMARKS = ("cub200", "cars196", "stanford_online_products", "in_shop")
COMPLETING = {  # what an option leaves to the user
    ("data", "image_folder"): ["data.root=somewhere"],
    ("data", "label_file"): ["data.root=somewhere", "data.labels=labels.csv"],
    **{("data", name): ["data.root=somewhere"] for name in BENCHMARKS},
    ("experiment", "fine_tune"): ["data.root=somewhere"],
    ("experiment", "open_set"): ["data.root=somewhere"],
    ("model", "timm"): ["model.name=resnet18"],
    ("model", "torchvision"): ["model.architecture=resnet34"],
    ("accumulation", "memory"): ["loss=triplet_koleo", "trainer.accumulate_grad_batches=2"],
    ("batches", "pairs"): ["loss=contrastive"],
    ("batches", "views"): ["loss=vicreg"],
    ("batches", "hard_negatives"): ["loss=lifted"],
    ("batches", "magnet"): ["loss=magnet"],
    ("loss", "instance"): ["batches=views"],
    ("loss", "magnet"): ["batches=magnet"],
}


@pytest.fixture(scope="module", autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def composed(*words: str) -> DictConfig:
    config = compose("train", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    return job_config(config)


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{g}={o}" for g, o in OPTIONS])
def test_every_option_composes_validates_and_fits_its_target(group: str, option: str) -> None:
    words = [f"{group}={option}", *COMPLETING.get((group, option), [])]
    config = composed(*words)
    check_targets(validate(config))  # raises where it does not fit
    assert HydraConfig.get().runtime.choices[group] == option


def test_there_is_an_option_of_every_documented_group() -> None:
    documented = "data batches model loss optimizer scheduler device logger experiment debug accumulation sweep"
    assert set(documented.split()) <= {group for group, _ in OPTIONS}


def test_the_command_line_reaches_the_configuration() -> None:
    config = validate(composed("loss=triplet_koleo", "trainer.accumulate_grad_batches=8", "seed=0"))
    assert config.objective.koleo_weight == 0.1
    assert config.loss.keys() == {"_target_", "margin", "batches", "miner"}
    assert to_dict(config)["loss"]["koleo_weight"] == 0.1
    assert config.trainer.accumulate_grad_batches == 8
    assert config.seed == 0
    assert config.data.source == {"_target_": "siamese.data.cifar10"}
    assert config.data.source_name == "cifar10"


def test_a_validated_configuration_cannot_be_changed() -> None:
    config = validate(composed())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.trainer.max_epochs = 3  # type: ignore[misc]


def test_validation_of_the_resolved_copy_gives_the_same_configuration() -> None:
    config = validate(composed("experiment=from_scratch"))
    again = yaml.safe_load(yaml.safe_dump(to_dict(config)))
    assert validate(again) == config


def test_each_range_belongs_to_a_key_that_exists() -> None:
    keys = set(TYPES)
    for file in (ROOT / "conf").glob("*/*.yaml"):
        group = "data.augment" if file.parent.name == "augment" else file.parent.name
        keys |= {f"{group}.{key}" for key in yaml.safe_load(file.read_text()) or {}}
    assert set(RANGES) <= keys


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+trainer.acumulate_grad_batches=8", "did you mean 'trainer.accumulate_grad_batches'"),
        ("data.batch_size=many", "data.batch_size=many: expected a whole number from 1, or auto"),
        ("data.batch_size=0", "data.batch_size=0: expected"),
        ("data.split=by_images", "did you mean 'by_image'"),
        ("seed=-1", "seed=-1: expected"),
        ("trainer.limit_train_batches=0", "trainer.limit_train_batches=0"),
    ],
)
def test_what_is_refused_is_named(word: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        validate(composed(word))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("+model.widht=3", "did you mean"),
        ("+loss.marign=3", "did you mean 'loss.margin'"),
        ("optimizer._target_=torch.optim.Adm", "torch.optim.Adm"),
        ("optimizer.fused=2", "optimizer.fused=2: expected"),
        ("model.embedding_dim=wide", "model.embedding_dim=wide: expected"),
    ],
)
def test_targets_are_checked_against_their_signatures(word: str, message: str) -> None:
    words = ["model=conv_small"] if "widht" in word else []
    with pytest.raises(ConfigError) as refused:
        check_targets(validate(composed(*words, word)))
    assert message in str(refused.value)


def test_flatten_and_scientific_keys() -> None:
    flat = flatten({"a": {"b": 1, "c": {"d": [1, 2]}}, "e": {}})
    assert flat == {"a.b": 1, "a.c.d": [1, 2], "e": {}}
    assert is_scientific("data.batch_size")
    assert is_scientific("device.precision")
    assert is_scientific("device.devices")
    assert not is_scientific("device.accelerator")
    assert not is_scientific("data.root")
    assert not is_scientific("callbacks.checkpoint_every")


DEFAULTS = {
    "accumulation.rescale_last_window": True,
    "callbacks.progress_bar": True,
    "figures.draw": True,
    "study.pilot": False,
    "study.missing": False,
    "sweep.fail_fast": False,
    "device.channels_last": True,
    "trainer.deterministic": False,
    "trainer.detect_anomaly": False,
    "trainer.inference_mode": True,
    "data.download": False,
    "evaluation.exclude_same_group": False,
    "evaluation.flip": False,
    "seed": 0,
}


def test_what_is_on_and_off_by_default() -> None:
    bare = flatten(to_dict(Config()))
    for key, value in DEFAULTS.items():
        assert KEYS[key].default is value, key
        assert bare[key] is value, key
        assert type(value) is bool or key == "seed"
    assert {key for key, found in KEYS.items() if type(found.default) is bool} == DEFAULTS.keys() - {"seed"}


def test_a_configuration_begins_with_the_defaults_of_the_schema() -> None:
    assert flatten(defaults()) == {
        key: value for key, value in flatten(to_dict(Config())).items() if key not in ("optimizer", "scheduler")
    } | {
        "loss.miner": None,
        "optimizer.decay": "all",
        "optimizer.backbone_lr": None,
        "optimizer.layer_decay": None,
        "scheduler.interval": "epoch",
        "scheduler.warmup": None,
    }


def test_no_option_repeats_a_default() -> None:
    """A default stands on its field of the schema, and nowhere else."""
    bare = flatten(defaults())
    for file in sorted((ROOT / "conf").glob("*/*.yaml")):
        group = file.parent.name
        if group in ("experiment", "sweep", "search", "debug", "hydra"):  # say all that makes them what they are
            continue
        for key, value in flatten(yaml.safe_load(file.read_text()), group).items():
            if key in KEYS and key not in ("device.accelerator", "accumulation.mode"):  # what tells options apart
                assert bare[key] != value, f"{file.name}: {key}={value}"


def test_help_and_cfg_answer(train_cli: Cli, tmp_path: Path) -> None:
    text = train_cli("--help").stdout
    for word in ("model: ", "resnet9", "from_scratch", "resume=outputs/RUN", "python train.py -m"):
        assert word in text
    job = yaml.safe_load(train_cli("loss=triplet_koleo", "--cfg", "job").stdout)
    assert job["loss"]["koleo_weight"] == 0.1
    assert job["trainer"]["max_epochs"] == 15


def test_the_command_line_does_not_import_torch_before_it_must() -> None:
    code = "import sys, train, siamese.commands.guard, siamese.compare; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
