"""The checks that a composed configuration passes once, without torch.

Hydra composes ``conf/`` into an open dictionary; :func:`validate` turns that dictionary into a
frozen :class:`~siamese.config.schema.Config` or raises :class:`ConfigError` with one line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException, ValidationError

from siamese.config.batch import with_window
from siamese.config.data import Data
from siamese.config.ranges import finite, refused, too_large
from siamese.config.schema import OPTIONAL_TARGETS, OWN_KEYS, RANGES, TARGETS, TYPES, Config, Device, Objective
from siamese.config.targets import node_of
from siamese.config.values import check_type, kind_of, mistyped, shown
from siamese.config.words import HABITS, otherwise
from siamese.errors import ConfigError, nearest


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as ``{"data.batch_size": 64, ...}``; lists stay values."""
    if not isinstance(node, Mapping) or (not node and prefix):
        return {prefix: node}
    out: dict[str, Any] = {}
    for key, value in node.items():
        out |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return out


def validate(composed: DictConfig | dict[str, Any]) -> Config:
    """The composed configuration as a frozen :class:`Config`.

    Raises:
        ConfigError: for an unknown key, a wrong type, a value out of range or an impossible
            combination; the message is one line naming the key, the value and what is accepted.
    """
    if not isinstance(composed, (Mapping, DictConfig)):
        raise ConfigError(f"{shown(composed)}: expected a group of keys, found {kind_of(composed)}")
    try:
        plain: Any = OmegaConf.to_container(OmegaConf.create(composed), resolve=True, throw_on_missing=True)
        _check_groups(plain)
        merged = OmegaConf.merge(_writable(OmegaConf.structured(Config)), _apart(plain))
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    assert isinstance(config, Config)
    values = flatten(to_dict(config))
    for group, own in OWN_KEYS.items():
        for name, kind in own.items():
            if f"{group}.{name}" in values:
                check_type(f"{group}.{name}", values[f"{group}.{name}"], kind)
    for name, value in values.items():
        if not finite(value):
            raise ConfigError(f"{name}={value}: expected a finite number")
        if too_large(value):
            raise ConfigError(f"{name}={value}: expected a number of at most 15 digits")
    for name, value in values.items():
        wanted = RANGES.get(re.sub(r"^loss\.(loss|losses\.\w+)\.", "loss.", name))  # a loss in a loss likewise
        if value is not None and wanted is not None and refused(value, wanted):
            expected = wanted[1]
            choices = expected.removeprefix("one of ").split(", ") if expected.startswith("one of") else []
            raise ConfigError(f"{name}={value}: expected {expected}{nearest(str(value), choices)}")
    config = with_window(config)
    _check_combinations(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as it is composed and recorded: plain dictionaries, lists and numbers."""
    plain: Any = OmegaConf.to_container(OmegaConf.structured(config))
    objective = plain.pop("objective")
    plain["loss"] = {**plain["loss"], **objective}
    return dict(plain)


def _apart(plain: Any) -> dict[str, Any]:
    """``plain`` with the keys of the objective, which are typed below ``loss``, in a node of their own."""
    if "objective" in plain:
        raise ConfigError(f"unknown key 'objective'; its keys are those of loss: {', '.join(_OF_OBJECTIVE)}")
    loss = dict(plain.get("loss", {}))
    objective = {name: loss.pop(name) for name in _OF_OBJECTIVE if name in loss}
    return {**plain, "loss": loss, "objective": objective}


_OF_OBJECTIVE = tuple(f.name for f in fields(Objective))


def _writable(schema: DictConfig) -> DictConfig:
    """Frozen dataclasses make read-only nodes; the merge that fills them in needs to write."""
    OmegaConf.set_readonly(schema, False)
    for name in schema:
        if OmegaConf.is_dict(schema[name]):
            _writable(schema[name])
    return schema


def _check_groups(plain: Any, prefix: str = "", cls: type = Config) -> None:
    """Refuse a lone value where the schema has a group of keys."""
    for f in fields(cls):
        kind, name = get_type_hints(cls)[f.name], prefix + f.name
        if f.name not in plain or not (is_dataclass(kind) or get_origin(kind) is dict):
            continue
        value = plain[f.name]
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{name}={shown(value)}: expected keys below it ({name}.KEY=VALUE), found {kind_of(value)}"
            )
        if is_dataclass(kind):
            _check_groups(value, f"{name}.", kind)  # type: ignore[arg-type]


def one_line(error: OmegaConfBaseException) -> str:
    """OmegaConf's complaint as one line in the words of :func:`validate`."""
    key = re.sub(r"^objective\b", "loss", error.full_key or "")
    text = str(error).splitlines()[0]
    if "not in" in text and key in HABITS:  # in a file; of a typed word that is known before
        return otherwise(key)
    if "not in" in text and key:
        return f"unknown key {key!r}{nearest(key, TYPES)}"
    if isinstance(error, ValidationError) and key in TYPES:
        value = error.value._value() if isinstance(error.value, ValueNode) else error.value
        return mistyped(key, value, TYPES[key])
    if "Missing mandatory value" in text:
        return f"{key}: a value is required (write {key}=VALUE)"
    return f"{key}: {text}" if key and key not in text else text


def _check_combinations(config: Config) -> None:
    data, device, sweep = config.data, config.device, config.sweep
    if data.split == "kfold" and data.fold >= data.folds:
        raise ConfigError(
            f"data.fold={data.fold}: expected a fold from 0 to {data.folds - 1} (data.folds={data.folds})"
        )
    if data.split != "kfold" and data.fold_over != "images":
        raise ConfigError(f"data.fold_over={data.fold_over}: only data.split=kfold has folds; found {data.split}")
    if data.fold_over == "groups" and data.group is None and data.labels is None:
        raise ConfigError("data.fold_over=groups: expected data.group, which says what belongs together; found null")
    if data.group is not None:
        _check_pattern(data)
    if data.split == "article" and data.triplets != "article":
        raise ConfigError(
            f"data.triplets={data.triplets}: data.split=article splits the article's own triplets;"
            " expected data.triplets=article"
        )
    padding, reflected = data.augment.get("crop_padding", 0), data.augment.get("border") == "reflection"
    if padding > min(data.size) - reflected:
        most = (
            f"less than data.image_size={data.image_size}, to be reflected"
            if reflected
            else (f"at most data.image_size={data.image_size}")
        )
        raise ConfigError(f"data.augment.crop_padding={padding}: expected {most}")
    if (data.mean is None) != (data.std is None):
        raise ConfigError("data.mean and data.std: give both, or neither to measure them on the training images")
    _check_accumulation(config)
    _check_fine_tuning(config)
    _check_trainer(config)
    if device.ranks > 1 and device.strategy != "ddp":
        raise ConfigError(
            f"device.strategy={device.strategy}: with {_devices(device)} each trains in a "
            "process of its own; expected ddp (device=cpu_ddp or device=cuda_ddp)"
        )
    if sweep.isolate == "fork" and (device.ranks > 1 or sys.platform != "linux"):
        why = _devices(device) if device.ranks > 1 else f"on {sys.platform}"
        raise ConfigError(f"sweep.isolate=fork: {why}; expected sweep.isolate=true, which starts each job anew")
    if device.devices > 1 and not sweep.isolate:
        raise ConfigError(
            f"device.devices={device.devices}: the processes of a run start its command again, which in the "
            "sweep's own process would be the whole sweep; expected sweep.isolate=true"
        )
    if sweep.timeout is not None and not sweep.isolate:
        raise ConfigError(
            f"sweep.timeout={sweep.timeout}: a job in the sweep's own process cannot be stopped; "
            "expected sweep.isolate=true"
        )
    for group in TARGETS:
        if group not in OPTIONAL_TARGETS and not node_of(config, group).get("_target_"):
            raise ConfigError(f"{group}._target_: expected the dotted path of what to build, found nothing")


def _devices(device: Device) -> str:
    """The key that makes the devices several."""
    return f"device.devices={device.devices}" if device.devices > 1 else f"device.num_nodes={device.num_nodes}"


def _check_pattern(data: Data) -> None:
    try:
        groups = re.compile(str(data.group)).groups
    except re.error as error:
        raise ConfigError(f"data.group={data.group}: not a pattern ({error})") from None
    if not groups and data.labels is None:
        raise ConfigError(
            f"data.group={data.group}: expected a pattern with one part in (…), which names the group in an id"
        )


def _check_accumulation(config: Config) -> None:
    """Refuse keys that the mode has no use for, rather than ignore them."""
    accumulation = config.accumulation
    mode = accumulation.mode
    if mode == "exact" and not accumulation.rescale_last_window:
        raise ConfigError(
            "accumulation.rescale_last_window=false: accumulation=exact takes a short last window as the smaller batch "
            "that it is; expected true, or accumulation=naive"
        )
    for name, unset in (("scope", "window"), ("size", None)):
        value = getattr(accumulation, name)
        if mode != "memory" and value != unset:
            raise ConfigError(
                f"accumulation.{name}={value}: only accumulation=memory has it; found accumulation={mode}"
            )
    if accumulation.scope == "persistent" and accumulation.size is None:
        raise ConfigError(
            "accumulation.size: accumulation.scope=persistent needs it (write accumulation.size=NUMBER, of embeddings)"
        )
    if mode == "memory" and accumulation.scope == "window" and config.trainer.accumulate_grad_batches == 1:
        raise ConfigError(
            "accumulation.scope=window: a window of one micro-batch has nothing to remember; expected a longer one "
            "(trainer.accumulate_grad_batches), or accumulation.scope=persistent"
        )


def _check_fine_tuning(config: Config) -> None:
    """Refuse to thaw what is not frozen, or too late, and rates of what is not trained."""
    frozen, unfreeze = config.model.get("freeze", "none"), config.callbacks.unfreeze
    for name in ("backbone_lr", "layer_decay"):
        value = config.optimizer.get(name)
        if value is not None and frozen == "backbone" and unfreeze is None:
            raise ConfigError(
                f"optimizer.{name}={value}: expected null, or callbacks.unfreeze, with model.freeze=backbone"
            )
    if unfreeze is None:
        return
    if frozen == "none":
        raise ConfigError(f"callbacks.unfreeze={unfreeze}: expected model.freeze=backbone or a layer; found none")
    if unfreeze >= config.trainer.max_epochs:
        raise ConfigError(
            f"callbacks.unfreeze={unfreeze}: expected fewer epochs than trainer.max_epochs={config.trainer.max_epochs}"
        )
    if config.device.ranks > 1:
        why = f"several devices agree at the beginning on what they train, found {_devices(config.device)}"
        raise ConfigError(f"callbacks.unfreeze={unfreeze}: {why}; expected null")


def _check_trainer(config: Config) -> None:
    warmup, interval = config.scheduler.get("warmup"), config.scheduler.get("interval")
    if isinstance(warmup, int) and interval == "epoch" and warmup >= config.trainer.max_epochs:
        raise ConfigError(
            f"scheduler.warmup={warmup}: expected fewer than the {config.trainer.max_epochs} epochs of the run "
            "(trainer.max_epochs)"
        )
    trainer, callbacks = config.trainer, config.callbacks
    if trainer.overfit_batches is not None and trainer.limit_train_batches != 1.0:
        raise ConfigError(
            f"trainer.overfit_batches={trainer.overfit_batches}: it is a limit too; expected "
            f"trainer.limit_train_batches=1.0, found {trainer.limit_train_batches}"
        )
    if trainer.benchmark and trainer.deterministic:
        raise ConfigError(
            f"trainer.benchmark=true: what is fastest may differ from run to run; expected trainer.deterministic=false,"
            f" found {str(trainer.deterministic).lower()}"
        )
    if callbacks.swa is not None and callbacks.ema is not None:
        raise ConfigError(
            f"callbacks.swa={callbacks.swa}: one mean of the weights takes their place; expected callbacks.ema=null, "
            f"found {callbacks.ema}"
        )
    if isinstance(callbacks.swa, int) and callbacks.swa > trainer.max_epochs:
        raise ConfigError(
            f"callbacks.swa={callbacks.swa}: expected at most the {trainer.max_epochs} epochs of the run "
            "(trainer.max_epochs)"
        )
    for least, most in (("min_epochs", "max_epochs"), ("min_steps", "max_steps")):
        low, high = getattr(trainer, least), getattr(trainer, most)
        if low is not None and callbacks.patience is None:
            raise ConfigError(
                f"trainer.{least}={low}: only callbacks.patience ends a run sooner; expected callbacks.patience=N"
            )
        if low is not None and high is not None and low > high:
            raise ConfigError(f"trainer.{least}={low}: expected at most trainer.{most}={high}")
    every = trainer.check_val_every_n_epoch
    for name, count in (
        ("trainer.max_epochs", trainer.max_epochs),
        ("callbacks.checkpoint_every", callbacks.checkpoint_every),
        ("evaluation.every", config.evaluation.every),
    ):
        if count is not None and count % every:
            raise ConfigError(
                f"{name}={count}: with trainer.check_val_every_n_epoch={every} epoch {count} is neither measured nor "
                f"saved; expected a multiple of {every}"
            )
