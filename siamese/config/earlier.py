"""Earlier layouts of a recorded configuration, brought to today's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from siamese.config.schema import KEYS, OPTIMIZER

# What a source and a kind of batches were called before they were named by a target.
KINDS = {
    "triplets": "siamese.data.batches.Triplets",
    "pairs": "siamese.data.batches.Pairs",
    "balanced": "siamese.data.batches.Balanced",
    "views": "siamese.data.batches.Views",
    "magnet": "siamese.data.batches.Magnet",
}
MOVED = {f"siamese.loggers.{name}": f"siamese.training.loggers.{name}" for name in ("TensorBoard", "MLflow", "WandB")}
# What batches=balanced did before it could do otherwise.
EVEN = {"small_classes": "refuse", "weight": "classes"}
# What a model did before it could do otherwise.
MODEL = {"weights_part": "all", "freeze_batchnorm": False}
# Likewise a schedule.
WARMUP = {"warmup": None}


def brought_up_to_date(recorded: Any) -> Any:
    """``recorded``, a configuration as any version of this program has written it, as this one would write it.
    What is no configuration is left as it is, for the checks to refuse."""
    if not isinstance(recorded, Mapping):
        return recorded
    config = dict(recorded)
    data, batches, logger, optimizer = (config.get(group) for group in ("data", "batches", "logger", "optimizer"))
    if isinstance(data, Mapping) and isinstance(data.get("source"), str):
        config["data"] = {**data, "source": {"_target_": f"siamese.data.{data['source']}"}}
    data = config.get("data")
    if isinstance(data, Mapping) and isinstance(augment := data.get("augment"), Mapping) and "_target_" not in augment:
        config["data"] = {**data, "augment": {"_target_": "siamese.data.augment.CropFlip", **augment}}
    if isinstance(batches, Mapping) and isinstance(batches.get("kind"), str):
        counts = {name: value for name, value in batches.items() if name != "kind" and value is not None}
        config["batches"] = {"_target_": KINDS.get(batches["kind"], batches["kind"]), **counts}
    batches = config.get("batches")
    if isinstance(batches, Mapping) and batches.get("_target_") == KINDS["balanced"]:
        config["batches"] = {**EVEN, **batches}
    if isinstance(logger, Mapping) and logger.get("_target_") in MOVED:
        config["logger"] = {**logger, "_target_": MOVED[logger["_target_"]]}
    if isinstance(optimizer, Mapping):
        config["optimizer"] = {**OPTIMIZER, **optimizer}
    model = config.get("model")
    if isinstance(model, Mapping) and "weights" in model and str(model.get("_target_")).startswith("siamese.models."):
        config["model"] = {**MODEL, **model}
    if isinstance(config.get("scheduler"), Mapping):
        config["scheduler"] = {**WARMUP, **config["scheduler"]}
    for name, found in KEYS.items():  # what has been added since, which then was as it is by default
        group, _, last = name.rpartition(".")
        node = config.get(group)
        if isinstance(node, Mapping) and last not in node and not found.name.startswith("loss."):
            config[group] = {**node, last: found.default}
    return config
