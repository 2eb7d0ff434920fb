"""Embedded images of one part of the data, and what figures show of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from siamese.evaluation.measure import Measured, Roles

Images = Callable[[np.ndarray], np.ndarray]
QUERIES, NEIGHBOURS, HARDEST, FAILURES = 10, 8, 6, 10  # shown in the figures


@dataclass(frozen=True)
class Told:
    """What a loss with class weights takes the images of a part for.

    Attributes:
        classes: int64 [c], of the weights, in their order.
        predicted: int64 [N], the class whose logit is the largest.
        logits: float32 [N, c]; None of very many classes.
    """

    classes: np.ndarray
    predicted: np.ndarray
    logits: np.ndarray | None


@dataclass(frozen=True)
class Part:
    """Embedded images.

    Attributes:
        name: validation or test.
        embeddings: float32 [N, D].
        labels: int64 [N], indices into ``class_names`` [C].
        ids: text [N].
        triplets: positions [T, 3] of anchor, positive and negative.
        roles: who looks for whom; None is everyone for all others.
        unseen: whether no class of it was trained on, so that others could have been in their place.
        images: gives the pixels of images by their positions: uint8 [*positions.shape, 3, H, W]; None where there
            are none to be had.
        told: None without class weights.
    """

    name: str
    embeddings: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    class_names: Sequence[str]
    triplets: np.ndarray
    images: Images | None
    roles: Roles | None = None
    unseen: bool = False
    told: Told | None = None


def pictures(part: Part, found: Measured) -> dict[str, dict[str, np.ndarray]]:
    """What figures show of the images of ``part``, by name; nothing where there are no images to be had."""
    if part.images is None or not part.class_names:
        return {}
    shown = {}
    if len(part.labels) > 1:
        shown["gallery"] = gallery(part, part.images)
    if len(part.triplets):
        shown["hardest"] = hardest(part, part.images)
    if len(worst(found)):
        shown["failures"] = failures(part, part.images, found)
    return shown


def gallery(part: Part, images: Images) -> dict[str, np.ndarray]:
    """Queries and their nearest neighbours by cosine. The queries are the first image of every class,
    the second, and so on, up to 10: the same whatever embeds them."""
    everything = np.arange(len(part.labels))
    asked, among = (everything, everything) if part.roles is None else (part.roles.queries, part.roles.gallery)
    asked = asked[part.labels[asked] >= 0]
    asked = asked[np.argsort(part.labels[asked], kind="stable")]
    labels = part.labels[asked]
    place_in_class = np.arange(len(asked)) - np.searchsorted(labels, labels)
    queries = asked[np.lexsort((labels, place_in_class))[:QUERIES]]
    queries = queries[np.lexsort((queries, part.labels[queries]))]
    z = _unit(part.embeddings)
    cosines = np.where(queries[:, None] == among, -np.inf, z[queries] @ z[among].T)
    others = len(among) - int(np.isin(queries, among).any())
    columns = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEIGHBOURS, others)]
    nearest = among[columns]
    return {
        "query_ids": part.ids[queries],
        "query_labels": part.labels[queries],
        "query_images": images(queries),
        "neighbour_ids": part.ids[nearest],
        "neighbour_labels": part.labels[nearest],
        "neighbour_images": images(nearest),
        "cosines": np.take_along_axis(cosines, columns, axis=1),
    }


def hardest(part: Part, images: Images) -> dict[str, np.ndarray]:
    """The triplets whose positive is farthest beyond the negative, by cosine distance."""
    anchor, positive, negative = (_unit(part.embeddings[part.triplets[:, role]]) for role in range(3))
    distances = np.stack([1 - (anchor * positive).sum(1), 1 - (anchor * negative).sum(1)], axis=1)
    chosen = np.argsort(distances[:, 1] - distances[:, 0], kind="stable")[:HARDEST]
    triplets = part.triplets[chosen]
    return {
        "images": images(triplets),
        "labels": part.labels[triplets],
        "ids": part.ids[triplets],
        "distances": distances[chosen],
    }


def worst(found: Measured) -> np.ndarray:
    """The queries whose nearest image is of another class, as places in ``found.queries``: those first whose own class
    comes last."""
    if not found.queries:
        return np.empty(0, dtype=np.int64)
    wrong = np.flatnonzero(found.queries["first"] > 1)
    return wrong[np.argsort(-found.queries["first"][wrong], kind="stable")]


def failures(part: Part, images: Images, found: Measured) -> dict[str, np.ndarray]:
    """The :func:`worst` queries, at most one of a class while there are others, with the image that is nearest and the
    first that would have been right."""
    queries = worst(found)
    labels = part.labels[found.queries["query"][queries]]
    again = np.zeros(len(queries), dtype=np.int64)
    for label in np.unique(labels):
        again[labels == label] = np.arange((labels == label).sum())
    chosen = queries[np.argsort(again, kind="stable")[:FAILURES]]
    places = np.stack([found.queries[which][chosen] for which in ("query", "nearest", "right")], axis=1)
    return {
        "images": images(places),
        "labels": part.labels[places],
        "ids": part.ids[places],
        "cosines": np.stack([found.queries[f"cosine_{which}"][chosen] for which in ("nearest", "right")], axis=1),
        "ranks": found.queries["first"][chosen],
    }


def _unit(embeddings: np.ndarray) -> np.ndarray:
    wide = embeddings.astype(np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
