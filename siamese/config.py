"""The checks that a composed configuration passes once.

Hydra composes ``conf/`` into an open dictionary; :func:`validate` turns that dictionary into a
frozen :class:`~siamese.schema.Config` or raises :class:`ConfigError` with one line. Nothing here
imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException, ValidationError

from siamese.errors import ConfigError, nearest
from siamese.kinds import check_type, kind_of, mistyped, shown
from siamese.schema import (
    BATCHES,
    CHECKS,
    OPTIONAL_TARGETS,
    OWN_KEYS,
    TARGETS,
    Config,
    schema,
)
from siamese.targets import targets


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
        plain = OmegaConf.to_container(OmegaConf.create(composed), resolve=True, throw_on_missing=True)
        _check_groups(plain)
        merged = OmegaConf.merge(_writable(OmegaConf.structured(Config)), plain)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(one_line(error)) from None
    assert isinstance(config, Config)
    values = flatten(OmegaConf.to_container(merged))
    for group, own in OWN_KEYS.items():
        for key, kind in own.items():
            if f"{group}.{key}" in values:
                check_type(f"{group}.{key}", values[f"{group}.{key}"], kind)
    for key, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            raise ConfigError(f"{key}={value}: expected a finite number")
    for key, value in values.items():
        check = CHECKS.get(re.sub(r"^loss\.(loss|losses\.\w+)\.", "loss.", key))  # a loss in a loss likewise
        if value is None or check is None:
            continue
        accepts, expected = check
        try:
            good = accepts(value)
        except TypeError:
            good = False
        if not good:
            choices = expected.removeprefix("one of ").split(", ") if expected.startswith("one of") else []
            raise ConfigError(f"{key}={value}: expected {expected}{nearest(str(value), choices)}")
    _check_combinations(config)
    return config


def _writable(schema: DictConfig) -> DictConfig:
    """Frozen dataclasses make read-only nodes; the merge that fills them in needs to write."""
    OmegaConf.set_readonly(schema, False)
    for key in schema:
        if OmegaConf.is_dict(schema[key]):
            _writable(schema[key])
    return schema


def _check_groups(plain: Any, prefix: str = "", cls: type = Config) -> None:
    """Refuse a lone value where the schema has a group of keys."""
    for f in fields(cls):
        kind, key = get_type_hints(cls)[f.name], prefix + f.name
        if f.name not in plain or not (is_dataclass(kind) or get_origin(kind) is dict):
            continue
        value = plain[f.name]
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}={shown(value)}: expected keys below it ({key}.KEY=VALUE), found {kind_of(value)}")
        if is_dataclass(kind):
            _check_groups(value, f"{key}.", kind)  # type: ignore[arg-type]


def one_line(error: OmegaConfBaseException) -> str:
    """OmegaConf's complaint as one line in the words of :func:`validate`."""
    key = error.full_key or ""
    text = str(error).splitlines()[0]
    kinds = schema()
    if "not in" in text and key:
        return f"unknown key {key!r}{nearest(key, kinds)}"
    if isinstance(error, ValidationError) and key in kinds:
        value = error.value._value() if isinstance(error.value, ValueNode) else error.value
        return mistyped(key, value, kinds[key])
    if "Missing mandatory value" in text:
        return f"{key}: a value is required (write {key}=VALUE)"
    return f"{key}: {text}" if key and key not in text else text


def _check_combinations(config: Config) -> None:
    data = config.data
    if data.split == "kfold" and data.fold >= data.folds:
        raise ConfigError(
            f"data.fold={data.fold}: expected a fold from 0 to {data.folds - 1} (data.folds={data.folds})"
        )
    if data.split == "article" and data.triplets != "article":
        raise ConfigError(
            f"data.triplets={data.triplets}: data.split=article splits the article's own triplets;"
            " expected data.triplets=article"
        )
    if data.source == "image_folder" and not data.root:
        raise ConfigError("data.root: data=image_folder needs a folder (write data.root=PATH)")
    _check_accumulation(config)
    if config.device.devices > 1 and config.device.strategy != "ddp":
        raise ConfigError(
            f"device.strategy={config.device.strategy}: with device.devices={config.device.devices} each trains in a "
            "process of its own; expected ddp (device=cpu_ddp or device=cuda_ddp)"
        )
    for name in ("mean", "std"):
        value = getattr(data, name)
        if value is not None and len(value) != 3:
            raise ConfigError(f"data.{name}={value}: expected 3 numbers, one a channel")
    if (data.mean is None) != (data.std is None):
        raise ConfigError("data.mean and data.std: give both, or neither to measure them on the training images")
    if data.std is not None and min(data.std) <= 0:
        raise ConfigError(f"data.std={data.std}: expected numbers above 0")
    if config.device.devices > 1 and not config.sweep.isolate:
        raise ConfigError(
            f"device.devices={config.device.devices}: the processes of a run start its command again, which in the "
            "sweep's own process would be the whole sweep; expected sweep.isolate=true"
        )
    if config.sweep.timeout is not None and not config.sweep.isolate:
        raise ConfigError(
            f"sweep.timeout={config.sweep.timeout}: a job in the sweep's own process cannot be stopped; "
            "expected sweep.isolate=true"
        )
    _check_batches(config)
    _check_loss(config)
    for group in TARGETS:
        if group not in OPTIONAL_TARGETS and not getattr(config, group).get("_target_"):
            raise ConfigError(f"{group}._target_: expected the dotted path of what to build, found nothing")


def _check_batches(config: Config) -> None:
    """Refuse counts that the kind of batches lacks or does not use, and a batch that they do not divide."""
    kind, size = config.batches.kind, config.data.batch_size
    for key, value in vars(config.batches).items():
        if key == "kind" or (value is None) != (key in BATCHES[kind]):
            continue
        expected = "a number" if value is None else f"null, for batches.kind={kind} does not use it"
        raise ConfigError(f"batches.{key}={shown(value)}: expected {expected}")
    if config.data.split == "article" and kind != "triplets":
        raise ConfigError(
            f"batches.kind={kind}: data.split=article splits the article's own triplets; expected batches=triplets"
        )
    for key in ("images_per_class", "images_per_cluster"):
        group = getattr(config.batches, key)
        if group is not None and (size % group or size < 2 * group):
            raise ConfigError(
                f"data.batch_size={size}: expected a multiple of batches.{key}={group}, and at least {2 * group}"
            )
    if kind != "triplets" and config.loss.get("koleo_over", "all") != "all":
        raise ConfigError(
            f"loss.koleo_over={config.loss['koleo_over']}: only triplets have these roles; "
            f"expected all, or batches=triplets (found batches.kind={kind})"
        )


def _check_loss(config: Config) -> None:
    """Refuse batches that a loss, or a loss in it, cannot use."""
    kind = config.batches.kind
    for key, node in targets("loss", config.loss):
        usable = node.get("batches")
        if usable is None:
            continue
        strange = [k for k in usable if k not in BATCHES] if isinstance(usable, list) else [usable]
        if strange:
            raise ConfigError(
                f"{key}.batches={shown(usable)}: expected a list of {', '.join(BATCHES)}"
                f"{nearest(str(strange[0]), BATCHES)}"
            )
        if kind not in usable:
            name = str(node["_target_"]).rpartition(".")[2]
            raise ConfigError(
                f"batches.kind={kind}: {name} ({key}) cannot use it; expected "
                + " or ".join(f"batches={k}" for k in usable)
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
    for key, unset in (("scope", "window"), ("size", None)):
        value = getattr(accumulation, key)
        if mode != "memory" and value != unset:
            raise ConfigError(f"accumulation.{key}={value}: only accumulation=memory has it; found accumulation={mode}")
    if accumulation.scope == "persistent" and accumulation.size is None:
        raise ConfigError(
            "accumulation.size: accumulation.scope=persistent needs it (write accumulation.size=NUMBER, of embeddings)"
        )
    if mode == "memory" and accumulation.scope == "window" and config.trainer.accumulate_grad_batches == 1:
        raise ConfigError(
            "accumulation.scope=window: a window of one micro-batch has nothing to remember; expected "
            "trainer.accumulate_grad_batches above 1, or accumulation.scope=persistent"
        )


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as plain dictionaries, lists and numbers."""
    container = OmegaConf.to_container(OmegaConf.structured(config))
    assert isinstance(container, dict)
    return {str(k): v for k, v in container.items()}
