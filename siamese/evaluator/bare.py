"""Measuring embeddings that come from anywhere: no run, no images, no model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from siamese.config.schema import Evaluation
from siamese.data.images import NO_CLASS
from siamese.errors import ConfigError, RunError
from siamese.evaluation.blocks import problem
from siamese.evaluation.measure import Roles, measure
from siamese.evaluation.names import Values
from siamese.evaluator.measured import how, triplets_of
from siamese.evaluator.part import Part

SEED = 0


def measure_embeddings(embeddings: Any, labels: Any, queries: Any, gallery: Any) -> Values:
    """See :func:`siamese.measure`."""
    found = array_of(embeddings)
    codes, names = classes_of(labels)
    if reason := problem(found, codes):
        raise ConfigError(f"embeddings: {reason}")
    roles = roles_among(len(found), queries, gallery)
    return measure(found, codes, triplets_of(codes, SEED), len(names), how(Evaluation(), None), roles).values


def part_of(name: str, arrays: Mapping[str, Any]) -> Part:
    """The ``arrays`` of a file as test images: ``embeddings`` and ``labels``, and perhaps ``ids``, ``class_names``, of
    which the labels are then places, ``queries``, ``gallery`` and ``groups``.

    Raises:
        RunError: for what does not fit, naming the file ``name``.
    """
    try:
        embeddings = array_of(arrays["embeddings"])
        codes, names = classes_of(arrays["labels"])
        if reason := problem(embeddings, codes):
            raise ConfigError(reason)
        if "class_names" in arrays:
            names = [str(one) for one in arrays["class_names"]]
            codes = np.asarray(arrays["labels"])
            if codes.dtype.kind not in "iu" or codes.max(initial=-1) >= len(names):
                raise ConfigError(f"labels: expected places among the {len(names)} class_names")
            codes = np.where(codes < 0, NO_CLASS, codes).astype(np.int64)
        count = len(codes)
        for key in ("ids", "groups"):
            if key in arrays and arrays[key].shape != (count,):
                raise ConfigError(f"{key}: expected one an embedding, found {arrays[key].shape} for {count}")
        roles = roles_among(count, arrays.get("queries"), arrays.get("gallery"))
        if "groups" in arrays:
            everything = np.arange(count)
            roles = roles or Roles(everything, everything)
            roles = replace(roles, groups=np.unique(arrays["groups"], return_inverse=True)[1])
    except ConfigError as error:
        raise RunError(f"{name}: {error}") from None
    ids = np.asarray(arrays.get("ids", np.arange(count)), dtype=str)
    return Part("test", embeddings, codes, ids, names, triplets_of(codes, SEED), None, roles, unseen=True)


def array_of(embeddings: Any) -> np.ndarray:
    """``embeddings`` as float32 [N, D], or float64 where they are that.

    Raises:
        ConfigError: for what is no array of numbers.
    """
    given = embeddings.detach().cpu() if hasattr(embeddings, "detach") else embeddings
    if hasattr(given, "float") and str(getattr(given, "dtype", "")) == "torch.bfloat16":  # which numpy does not know
        given = given.float()
    try:
        found = np.asarray(given)
    except ValueError as error:
        raise ConfigError(f"embeddings: expected numbers [N, D], found rows of different lengths ({error})") from error
    if found.dtype.kind not in "fiu":
        raise ConfigError(f"embeddings: expected numbers [N, D], found {found.dtype}")
    return found if found.dtype == np.float64 else found.astype(np.float32)


def classes_of(labels: Any) -> tuple[np.ndarray, list[str]]:
    """The classes of ``labels`` [N], numbered as they sort, int64 [N], NO_CLASS where there is none; and their names.

    Raises:
        ConfigError: for labels that are not in one row.
    """
    given = labels.detach().cpu().numpy() if hasattr(labels, "detach") else labels
    if isinstance(given, np.ndarray):
        if given.ndim != 1:
            raise ConfigError(f"labels: expected one an embedding, [N], found shape {list(given.shape)}")
        given = given.tolist()
    values = [value.item() if isinstance(value, np.generic) else value for value in given]
    if nested := [i for i, value in enumerate(values) if isinstance(value, (list, set, dict, np.ndarray))]:
        raise ConfigError(
            f"labels: expected one an embedding, found a {type(values[nested[0]]).__name__} at {nested[0]}"
        )
    there = {value for value in values if not _none(value)}
    kinds = {isinstance(value, str) for value in there}
    ordered = sorted(there) if len(kinds) < 2 and _sorts(there) else sorted(there, key=lambda v: (str(type(v)), str(v)))
    number = {value: i for i, value in enumerate(ordered)}
    codes = [NO_CLASS if _none(value) else number[value] for value in values]
    return np.array(codes, dtype=np.int64), [str(value) for value in ordered]


def roles_among(count: int, queries: Any, gallery: Any) -> Roles | None:
    """Who looks for whom among ``count`` images; None where nothing is said.

    Raises:
        ConfigError: for masks of another length, or positions that are none.
    """
    if queries is None and gallery is None:
        return None
    return Roles(_positions("queries", queries, count), _positions("gallery", gallery, count))


def _positions(name: str, given: Any, count: int) -> np.ndarray:
    if given is None:
        return np.arange(count)
    found = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if found.dtype == bool and found.shape == (count,):
        found = np.flatnonzero(found)
    elif found.dtype.kind not in "iu" or found.ndim != 1:
        raise ConfigError(
            f"{name}: expected a mask of {count} images or positions, found {found.dtype} of shape {list(found.shape)}"
        )
    if not len(found):
        raise ConfigError(f"{name}: expected one image or more, found none")
    if len(beyond := found[(found < 0) | (found >= count)]):
        raise ConfigError(f"{name}: expected positions from 0 to {count - 1}, found {beyond[0]}")
    if len(np.unique(found)) < len(found):
        raise ConfigError(f"{name}: expected each position once, found {len(found) - len(np.unique(found))} again")
    return found.astype(np.int64)


def _none(value: Any) -> bool:
    """Whether a label is of an image without a class."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, (int, float)) and value < 0


def _sorts(values: set[Any]) -> bool:
    return all(isinstance(value, (int, float, str)) for value in values)
