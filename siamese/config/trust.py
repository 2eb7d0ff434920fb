"""Which targets of a run directory may be built: a directory may come from anywhere, and building runs code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from siamese.config.schema import TARGETS, Config
from siamese.config.targets import node_of, targets
from siamese.errors import ConfigError
from siamese.paths import CONF


def refuse_strangers(own: Config, trusted: Iterable[Any], config_dirs: Sequence[Path], remedy: str) -> None:
    """Refuse a run's configuration that names what neither ``conf/`` nor the command line does.

    Args:
        trusted: modules or targets that the command line names, each alone, in a list or None.
        config_dirs: folders of options that the command line adds.
        remedy: the command that trusts a module, up to the module's name.

    Raises:
        ConfigError: naming the target and that command.
    """
    names = [name for one in trusted if one for name in ([one] if isinstance(one, str) else one)]
    added = {node["_target_"] for folder in config_dirs for node in _nodes_below(folder)}
    for key, target in strangers(own):
        if target in added or any(target == name or target.startswith(f"{name}.") for name in names):
            continue
        raise ConfigError(
            f"{key}._target_={target}: the run directory names it and conf/{key.partition('.')[0]} does not; "
            f"to trust it: {remedy}{target.rpartition('.')[0]}"
        )


def strangers(own: Config) -> Iterator[tuple[str, str]]:
    """Nodes of a run's configuration, and what each wants built that no file of ``conf/`` names."""
    groups = {key: node_of(own, key) for key in TARGETS}
    for key, node in [*groups.items(), ("callbacks.extra", own.callbacks.extra)]:
        known = {inner["_target_"] for inner in _nodes_below(CONF / key.partition(".")[0])}
        for at, inner in targets(key, node):
            if inner["_target_"] not in known:
                yield at, str(inner["_target_"])


def _nodes_below(folder: Path) -> Iterator[Any]:
    """Every mapping with a ``_target_`` in the YAML files below ``folder``."""
    for file in sorted(folder.rglob("*.yaml")):
        for _, node in targets("", yaml.safe_load(file.read_text())):
            yield node
