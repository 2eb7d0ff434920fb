"""Targets of one's own: on a command line, and in a run directory, which may come from anywhere."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from siamese.config.schema import KEYS, OWN_KEYS, TARGETS, Config
from siamese.config.targets import node_of, targets
from siamese.errors import ConfigError
from siamese.paths import CONF, near


def refuse_strangers(
    own: Config, trusted: Iterable[Any], config_dirs: Sequence[Path], remedy: str, keys: Sequence[str] | None = None
) -> None:
    """Refuse a run's configuration that names what neither ``conf/`` nor the command line does.

    Args:
        trusted: modules or targets that the command line names, each alone, in a list or None.
        config_dirs: folders of options that the command line adds.
        remedy: the command that trusts a module, up to the module's name.
        keys: the nodes that are going to be made; None is all of them.

    Raises:
        ConfigError: naming the target and that command.
    """
    names = [name for one in trusted if one for name in ([one] if isinstance(one, str) else one)]
    added = {node["_target_"] for folder in config_dirs for node in _nodes_below(folder)}
    for key, target in strangers(own, keys):
        if target in added or any(target == name or target.startswith(f"{name}.") for name in names):
            continue
        raise ConfigError(
            f"{key}._target_={target}: the run directory names it and conf/{key.partition('.')[0]} does not; "
            f"to trust it: {remedy}{target.rpartition('.')[0]}"
        )


def strangers(own: Config, keys: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
    """Nodes of a run's configuration (those that ``keys`` name), and what each wants built that no file of ``conf/``
    names."""
    groups = {key: node_of(own, key) for key in TARGETS} | {"callbacks.extra": own.callbacks.extra}
    for key, node in groups.items():
        if keys is not None and key not in keys:
            continue
        known = {inner["_target_"] for inner in _nodes_below(_group(key))}
        for at, inner in targets(key, node):
            if inner["_target_"] not in known:
                yield at, str(inner["_target_"])


def resume_words(run: Path, own: Config) -> list[Any]:
    """What is typed after the command to go on with a ``run`` of this configuration, for :func:`pasteable`."""
    modules = sorted({target.rpartition(".")[0] for _, target in strangers(own)})
    trust = [f"trust={modules[0]}" if len(modules) == 1 else f"trust=[{','.join(modules)}]"] if modules else []
    return [("resume", near(run)), *trust]


def _group(key: str) -> Path:
    """The folder of the options that a node of the configuration is chosen from."""
    return CONF / ("augment" if key.startswith("data.augment") else key.partition(".")[0])


def _nodes_below(folder: Path) -> Iterator[Any]:
    """Every mapping with a ``_target_`` in the YAML files below ``folder``."""
    for file in sorted(folder.rglob("*.yaml")):
        for _, node in targets("", yaml.safe_load(file.read_text())):
            yield node


def with_typed_targets(composed: Any, words: Sequence[str]) -> dict[str, Any]:
    """A composed configuration in which a target of one's own that was typed (``model._target_=mymodule.Net``) has the
    arguments that were typed with it, as in a YAML of its own, and none of the option that it takes the place of."""
    config: Any = OmegaConf.to_container(OmegaConf.create(composed), resolve=True)
    typed = {word.lstrip("+").partition("=")[0] for word in words}
    for key in TARGETS:
        if f"{key}._target_" not in typed:
            continue
        *path, last = key.split(".")
        parent = functools.reduce(lambda node, name: node[name], path, config)
        node = parent[last]
        if node["_target_"] in {known["_target_"] for known in _nodes_below(_group(key))}:
            continue
        own = OWN_KEYS["scheduler"].keys() if key == "scheduler" else set()
        ours = {name for name in node if f"{key}.{name}" in KEYS} | own
        kept = ours | {name for name in node if any(_says(word, f"{key}.{name}") for word in typed)}
        parent[last] = {name: value for name, value in node.items() if name in kept or name == "_target_"}
    return dict(config)


def _says(typed: str, key: str) -> bool:
    return typed == key or typed.startswith(f"{key}.")
