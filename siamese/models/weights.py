"""Weights to start from: out of a run, a checkpoint or a file of a state dict. What fits is loaded, and all is said."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from siamese.decoding.names import counted
from siamese.errors import RunError, nearest, several
from siamese.models.embedding import EmbeddingNet
from siamese.paths import near
from siamese.runs.checkpoint import checkpoint_file
from siamese.runs.find import find_runs
from siamese.runs.provenance import fingerprint
from siamese.runs.read import holds_a_run

log = logging.getLogger(__name__)

Part = Literal["all", "backbone"]
PIXELS = ("mean", "std")
# What a network that tells classes apart has besides, in torchvision and timm.
OF_THE_HEAD = ("fc", "classifier", "head", "heads", "head_dist", "aux1", "aux2", "AuxLogits")


def weights_file(path: str) -> Path:
    """The file that ``model.weights`` names: itself, or best.ckpt where it is the directory of a run.

    Raises:
        RunError: when there is none.
    """
    named = Path(path).expanduser()
    if named.is_dir():
        best = checkpoint_file(named, "best")
        if best.is_file():
            return best
        others = sorted(other.name for other in best.parent.glob("*.ckpt"))
        if others:
            raise RunError(f"model.weights={path}: no checkpoints/best.ckpt there; expected one of {several(others)}")
        if holds_a_run(named):
            raise RunError(f"model.weights={path}: the run has no checkpoint yet; it has not finished an epoch")
        completed, unfinished = find_runs([named])
        below = sorted([near(run.path) for run in completed] + [near(run.path) for run in unfinished])
        if below:
            raise RunError(
                f"model.weights={path}: holds {counted(len(below), 'run')}; expected one of them: {several(below)}"
            )
        raise RunError(f"model.weights={path}: holds no run; expected a run directory, a checkpoint or a state dict")
    if not named.is_file():
        beside = [one.name for one in named.parent.iterdir()] if named.parent.is_dir() else []
        raise RunError(f"model.weights={path}: no such file or run{nearest(named.name, beside)}")
    return named


def load_weights(
    net: EmbeddingNet,
    path: str,
    part: Part,
    name: str,
    within: str,
    adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, str]:
    """Give ``net`` what the file or the run in ``path`` has of it, and say in one line what that is.

    The backbone has to be there whole. The projection is loaded where the file has one of the same shape. The mean and
    the standard deviation of pixels come with a network of ours, for its backbone expects them. The averaged weights of
    a run are what its checkpoints have in the place of those that were trained.

    Args:
        part: ``backbone`` to leave the projection as it is, at random.
        name: what messages call the backbone.
        within: where whoever published it keeps the backbone, such as ``features``; empty where it is all there is.
        adapt: makes what the file has of the backbone into what this one takes.

    Returns:
        The ``file`` and the ``fingerprint`` of its bytes, for the record.

    Raises:
        RunError: when the file cannot be read as plain tensors, or is of another architecture.
    """
    file = weights_file(path)
    own = net.state_dict()
    given, others = _by_place(_read(file, path), within, own)
    if adapt is not None:
        inner = {k.removeprefix("backbone."): v for k, v in given.items() if k.startswith("backbone.")}
        given |= {f"backbone.{k}": v for k, v in adapt(inner).items()}
    _require_backbone(path, name, within, given, own)
    reason = _unfit(given, own, part)
    names = {key for key in given if key.startswith("backbone.")}
    names |= set(PIXELS) if all(_shape(given.get(key)) == _shape(own[key]) for key in PIXELS) else set()
    if reason is None:
        names |= {key for key in own if key.startswith("projection.")}
    net.load_state_dict({key: given[key] for key in names}, strict=False)

    loaded = [f"the backbone ({sum(key.startswith('backbone.') for key in names)} tensors)"]
    loaded += ["the projection"] if reason is None and isinstance(net.projection, nn.Linear) else []
    loaded += ["the mean and std of pixels (in the place of those of data)"] if set(PIXELS) <= names else []
    left = f"the projection ({reason})" if reason else "nothing"
    unused = [*sorted(given.keys() - names), *others]
    log.info(
        "model.weights=%s: loaded %s; left at random: %s; in the file and not used: %s",
        near(file),
        ", ".join(loaded),
        left,
        f"{counted(len(unused), 'entry', 'entries')} ({several(unused, 3)})" if unused else "nothing",
    )
    return {"file": str(near(file)), "fingerprint": digest(file)}


def digest(file: Path) -> str:
    """The digest of the bytes of ``file`` (16 hexadecimal digits)."""
    return fingerprint(np.memmap(file, dtype=np.uint8, mode="r"))


def of_backbone(state: Mapping[str, Any], within: str, own: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The entries of a published state dict that are of the backbone which is kept ``within`` it, by their names there,
    and the names of the others. (torchvision's DenseNet files are older than its names: norm.1 there is norm1 here.)

    Args:
        own: the names in the backbone.
    """
    prefix = f"{within}." if within else ""
    given = {
        re.sub(r"(denselayer\d+\.\w+)\.([12]\.)", r"\1\2", key.removeprefix(prefix)): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    others = [key for key in given if key.partition(".")[0] in OF_THE_HEAD and key not in own and not within]
    others += [key for key in state if not key.startswith(prefix)]
    return {key: value for key, value in given.items() if key not in others}, sorted(others)


def _read(file: Path, path: str) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a file that is no state dict makes the reader raise
        reason = str(error).splitlines()[0]
        raise RunError(f"model.weights={path}: could not be read as a state dict ({reason})") from None
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    return {str(key): value for key, value in state.items()} if isinstance(state, dict) else {}


def _by_place(state: dict[str, Any], within: str, own: Collection[str]) -> tuple[dict[str, Any], list[str]]:
    """The entries of ``state`` by the names that a network of ours has for them, and the names of all others: of a
    checkpoint of a run, of a network of ours, or of a backbone as it is published or alone."""
    for prefix in ("net.", ""):
        if any(key.startswith(f"{prefix}backbone.") for key in state):
            given = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            return given, sorted(key for key in state if not key.startswith(prefix))
    inside = within if within and any(key.startswith(f"{within}.") for key in state) else ""
    known = {key.removeprefix("backbone.") for key in own if key.startswith("backbone.")}
    backbone, others = of_backbone(state, inside, known)
    return {f"backbone.{key}": value for key, value in backbone.items()}, others


def _require_backbone(path: str, name: str, within: str, given: Mapping[str, Any], own: Mapping[str, Tensor]) -> None:
    """Refuse a file without every tensor of the backbone, or with others."""
    ours, theirs = ({k for k in state if k.startswith("backbone.")} for state in (own, given))
    missing = sorted(k for k in ours - theirs if not k.endswith("num_batches_tracked"))  # new in torch 0.4.1
    wrong = sorted(k for k in ours & theirs if _shape(given[k]) != _shape(own[k]))
    extra = sorted(theirs - ours)
    for kind, names in (("lacks", missing), ("has other shapes for", wrong), ("also has", extra)):
        if names:
            prefix = f"{within}." if within else ""
            shown = several([prefix + key.removeprefix("backbone.") for key in names], 3)
            raise RunError(f"model.weights={path}: not the weights of {name}; it {kind} {shown}")


def _unfit(given: Mapping[str, Any], own: Mapping[str, Tensor], part: Part) -> str | None:
    """Why the projection cannot be what the file has, or None where it can or there is none."""
    wanted = {key: _shape(value) for key, value in own.items() if key.startswith("projection.")}
    if not wanted:
        return None
    if part == "backbone":
        return "model.weights_part=backbone"
    found = {key: _shape(given[key]) for key in wanted if key in given}
    if not found:
        return "the file has none"
    weight = "projection.weight"
    return None if found == wanted else f"expected {wanted[weight]}, the file has {found.get(weight)}"


def _shape(value: object) -> list[int] | None:
    return list(value.shape) if isinstance(value, Tensor) else None
