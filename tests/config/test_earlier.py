"""Configurations as earlier versions recorded them."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from support.processes import ROOT

from siamese.config.earlier import brought_up_to_date
from siamese.config.validate import to_dict, validate
from siamese.training.check import job_config

COUNTS: dict[str, Any] = dict.fromkeys(("images_per_class", "clusters_per_class", "images_per_cluster", "refreshes"))


def recorded(*words: str) -> dict[str, Any]:
    """What is recorded today for the command line ``words``."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose("train", ["name=test", "model=conv_small", *words], return_hydra_config=True)
        HydraConfig.instance().set_config(composed)
        return to_dict(validate(job_config(composed)))


@pytest.mark.parametrize(
    ("words", "source", "batches", "logger"),
    [
        ("data=digits", "digits", {"kind": "triplets"}, None),
        ("data=cifar10 batches=pairs", "cifar10", {"kind": "pairs"}, None),
        ("data=fashion_mnist batches=views", "fashion_mnist", {"kind": "views"}, None),
        ("data=image_folder batches=balanced", "image_folder", {"kind": "balanced", "images_per_class": 8}, None),
        (
            "data=digits batches=magnet batches.refreshes=3 logger=tensorboard",
            "digits",
            {"kind": "magnet", "clusters_per_class": 2, "images_per_cluster": 8, "refreshes": 3},
            "siamese.loggers.TensorBoard",
        ),
    ],
)
def test_names_became_targets(words: str, source: str, batches: dict[str, Any], logger: str | None) -> None:
    today = recorded(*words.split())
    earlier = {key: value for key, value in today.items() if key != "trust"}
    earlier["data"] = {**today["data"], "source": source}
    earlier["batches"] = {**COUNTS, **batches}
    earlier["callbacks"] = {key: value for key, value in today["callbacks"].items() if key != "extra"}
    if logger:
        earlier["logger"] = {**today["logger"], "_target_": logger}
    assert brought_up_to_date(earlier) == {key: value for key, value in today.items() if key != "trust"}
    assert to_dict(validate(brought_up_to_date(earlier))) == today


def test_balanced_batches_were_even_over_classes() -> None:
    today = recorded("data=digits", "batches=balanced")
    before = {key: value for key, value in today["batches"].items() if key not in ("small_classes", "weight")}
    assert brought_up_to_date({**today, "batches": before}) == today
    chosen = recorded("data=digits", "batches=balanced", "batches.weight=sqrt")
    assert brought_up_to_date(chosen) == chosen


@pytest.mark.parametrize("words", ["data=digits", "data=digits batches=magnet logger=mlflow loss=triplet_koleo"])
def test_what_is_recorded_today_stays_as_it_is(words: str) -> None:
    today = recorded(*words.split())
    assert brought_up_to_date(today) == today


@pytest.mark.parametrize("strange", [None, 5, [1], "text", {"data": 5, "batches": [], "logger": None}])
def test_what_is_no_configuration_is_left_to_the_checks(strange: Any) -> None:
    assert brought_up_to_date(strange) == strange
