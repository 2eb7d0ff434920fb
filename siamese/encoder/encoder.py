"""The network of a run, in use."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich import get_console
from rich.progress import Progress
from torch import Tensor

from siamese.config.schema import Config
from siamese.decoding.decode import Decoding
from siamese.decoding.names import counted, few
from siamese.encoder.classify import Classified, Classifier, classifier_of
from siamese.encoder.gallery import Gallery, Neighbours, Searchable
from siamese.encoder.images import Block, blocks, damage, items_of, name_of
from siamese.encoder.network import Network
from siamese.encoder.thresholds import Threshold, threshold_of
from siamese.errors import ConfigError, RunError
from siamese.evaluation.blocks import directions
from siamese.evaluator.report import HEADLINE, WITHOUT_CLASSES
from siamese.models import mirrored
from siamese.models.embedding import EmbeddingNet
from siamese.runs.checkpoint import checkpoint_file

log = logging.getLogger(__name__)

LONG = 200  # images; fewer are embedded before a bar is read


class Same(NamedTuple):
    """Two images: the Euclidean ``distance`` of their unit vectors, whether that is within the ``threshold``, and so
    whether they count as the ``same``."""

    distance: float
    same: bool
    threshold: Threshold


class Embedded(NamedTuple):
    """The images of some that could be embedded.

    Attributes:
        embeddings: float32 [n, D].
        positions: int64 [n], of each among all.
        damaged: by the position of each other, what is wrong with it.
    """

    embeddings: np.ndarray
    positions: np.ndarray
    damaged: dict[int, str]


class Encoder:
    """The network of a run with the weights of one of its checkpoints; made by :func:`siamese.load_run`.

    Several threads may use one encoder, and so may processes that are forked from the one that made it, on the CPU.

    Attributes:
        run: the run's directory.
        config: its configuration, fitted to this machine.
        manifest, summary: what its files of these names hold.
        checkpoint: the name of the checkpoint.
        epoch: whole epochs that its weights were trained for.
        device: what it computes on.
        embedding_dim: D, the length of an embedding.
        network: what embeds pixels, and how many images it does at a time.
        decoding: how files become pixels, as they did in training.
    """

    def __init__(
        self,
        run: Path,
        config: Config,
        manifest: Mapping[str, Any],
        summary: Mapping[str, Mapping[str, Any]],
        checkpoint: str,
        epoch: int,
        net: EmbeddingNet,
        device: torch.device,
        trust: str | Sequence[str] = (),
    ) -> None:
        self.run, self.config, self.manifest, self.summary = run, config, manifest, summary
        self.checkpoint, self.epoch, self.device, self._trust = checkpoint, epoch, device, trust
        self.decoding = Decoding(**{field.name: getattr(config.data, field.name) for field in fields(Decoding)})
        self.network = Network(net, device, config.device.precision, config.data.eval_batch_size)
        self.embedding_dim = net.embedding_dim

    def __repr__(self) -> str:
        data, height, width = self.manifest.get("data", {}), *self.config.data.size
        classes = len(data.get("classes", ()))
        images = self.manifest.get("split", {}).get("train", "?")
        headline = WITHOUT_CLASSES if "test/view_recall_at_1" in self.summary else HEADLINE
        found = {name: self.summary.get(f"test/{name}", {}) for name in headline}
        measured = [f"{name} {of['value']:.4f}" for name, of in found.items() if of.get("value") is not None]
        stale = any(self._stale(of.get("epoch")) for of in found.values())
        said = "not measured on its test images" if stale or not measured else f"test {', '.join(measured)}"
        return (
            f"<encoder of {self.run}: {images} training images of {data.get('source')}, "
            f"{counted(classes, 'class', 'classes')}, {height} x {width}; {self.checkpoint}.ckpt, epoch {self.epoch}; "
            f"{said}; {self.embedding_dim} dimensions, {self.network.precision} on {self.device}>"
        )

    # -- images to vectors ---------------------------------------------------------------------

    def embed(self, images: Any, *, flip: bool | None = None) -> np.ndarray:
        """Embed ``images``, decoded and brought to size as those of the training were: float32 [N, D].

        Args:
            images: paths, PIL images, uint8 pixels [N, 3, H, W] or [N, H, W, 3], one or several of these, or a
                DataFrame with paths in its column ``path``.
            flip: average the embeddings of each image and its mirror image; None does as the run
                was measured (``evaluation.flip``).

        Raises:
            ConfigError: for what is none of these, and for paths that lead to no file.
            RunError: for files that are no image or damaged, all of them named; where memory does not suffice.
        """
        items = items_of(images)
        found = self.embed_readable(items, flip=flip)
        if found.damaged:
            raise RunError(damage(items, found.damaged))
        return found.embeddings

    def embed_readable(self, images: Any, *, flip: bool | None = None) -> Embedded:
        """:meth:`embed` without the images whose files are no image or damaged.

        Raises:
            ConfigError, RunError: as :meth:`embed`, but for damaged files.
        """
        vectors: list[Tensor] = [torch.empty(0, self.embedding_dim)]
        positions: list[int] = []
        damaged: dict[int, str] = {}
        for block, embedded in self.each_block(images, flip=flip):
            vectors.append(embedded)
            positions += block.positions
            damaged |= block.damaged
        return Embedded(torch.cat(vectors).numpy(), np.array(positions, dtype=np.int64), damaged)

    def each_block(self, images: Any, *, flip: bool | None = None) -> Iterator[tuple[Block, Tensor]]:
        """Some of ``images`` at a time, decoded, with the embeddings, float32 [n, D], of those that could be.

        Raises:
            ConfigError, RunError: as :meth:`embed`, but for damaged files.
        """
        items, notes = items_of(images), defaultdict[str, list[str]](list)
        bar = Progress(transient=True, disable=len(items) < LONG or not get_console().is_terminal)
        with bar, contextlib.closing(blocks(items, self.decoding, self.config.data.eval_batch_size)) as decoded:
            task = bar.add_task("embedding", total=len(items))
            for block in decoded:
                yield block, self.embed_pixels(block.pixels, flip=flip)
                bar.advance(task, block.count)
                for position, odd in block.notes.items():
                    for note in odd:
                        notes[note].append(name_of(items[position], position))
        for note, names in sorted(notes.items()):
            log.info("%s with %s: %s", counted(len(names), "image"), note, few(names))

    def embed_pixels(self, pixels: Tensor, *, flip: bool | None = None) -> Tensor:
        """Embed ``pixels``, uint8 [N, 3, H, W] of the size that the network was trained on: float32 [N, D].

        Raises:
            RunError: where memory does not suffice for a single image, and in a process forked from one whose encoder
                is not on the CPU.
        """
        flip = self.config.evaluation.flip if flip is None else flip
        return mirrored.embed(self.network, pixels, flip=flip)

    def classify(self, images: Any, *, flip: bool | None = None) -> Classified:
        """The most probable class of each image, and the probabilities of all that were trained on, by the class
        weights of the run's loss.

        Raises:
            ConfigError, RunError: see :meth:`embed`; and for a loss that has no class weights.
        """
        classifier = self._classifier
        return classifier(torch.from_numpy(self.embed(images, flip=flip)))

    @cached_property
    def _classifier(self) -> Classifier:
        file = checkpoint_file(self.run, self.checkpoint)
        about = self.config, self.manifest, file, self.epoch, self.embedding_dim, self._trust
        return classifier_of(self.run, *about)

    # -- what is near what ---------------------------------------------------------------------

    def distance(self, one: Any, other: Any) -> float:
        """The Euclidean distance of the unit vectors of two images: 0 to 2.

        Raises:
            ConfigError, RunError: see :meth:`embed`; and for more images than one in the place of one, or none.
        """
        pair = [self.embed(one), self.embed(other)]
        if [len(vectors) for vectors in pair] != [1, 1]:
            raise ConfigError(f"expected one image and one other, found {len(pair[0]):,} and {len(pair[1]):,}")
        first, second = directions(np.concatenate(pair))
        return float(np.linalg.norm(first - second))

    def threshold(self, far: str | float | None = None) -> Threshold:
        """The distance up to which two images count as the same: at the equal error rate of the run's validation
        images, or where a share ``far`` of their pairs of different classes is accepted (1e-1, 1e-2 or 1e-3).

        Raises:
            ConfigError: for another rate.
            RunError: when the run has no such threshold, and for another checkpoint than best.ckpt, whose it is.
        """
        self._require_best("threshold")
        return threshold_of(self.run, self.summary, self.epoch, far)

    def same(self, one: Any, other: Any, *, far: str | float | None = None) -> Same:
        """Whether two images count as the same, by their :meth:`distance` and the run's :meth:`threshold`.

        Raises:
            ConfigError, RunError: see both, and :meth:`embed`.
        """
        threshold, distance = self.threshold(far), self.distance(one, other)
        return Same(distance, distance <= threshold.distance, threshold)

    @cached_property
    def gallery(self) -> Gallery:
        """The run's own test images, as it embedded them.

        Raises:
            RunError: when they are not there or damaged, and for another checkpoint than best.ckpt, whose they are.
        """
        self._require_best("embedding of its test images")
        return Gallery.of_run(self.run)

    def search(self, images: Any, k: int = 10, *, among: Searchable | None = None) -> Neighbours:
        """The ``k`` nearest of the run's own test images, or of what there is in an index ``among``.

        Args:
            images: embeddings, float [N, D] or [D], or whatever :meth:`embed` takes.

        Raises:
            ConfigError, RunError: see :meth:`embed` and :meth:`siamese.encoder.Gallery.search`.
        """
        if isinstance(among, (str, os.PathLike)):
            raise ConfigError(f"among={among}: expected an index that is open; siamese.open_index opens one")
        vectors = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        if not (isinstance(vectors, np.ndarray) and vectors.dtype.kind == "f"):
            vectors = self.embed(images)
        return (self.gallery if among is None else among).search(np.atleast_2d(vectors), k)

    def _require_best(self, what: str) -> None:
        """Refuse to use what was measured on one checkpoint with another."""
        measured = [of["epoch"] for name, of in self.summary.items() if name.startswith("test/")]
        if self.checkpoint != "best":
            raise RunError(f"{self.run}: there is no {what} of {self.checkpoint}.ckpt; the run has one of best.ckpt")
        if measured and self._stale(measured[0]):
            raise RunError(
                f"{self.run}: its {what} is of epoch {measured[0]}, and best.ckpt is of epoch {self.epoch} by now"
            )

    def _stale(self, epoch: int | None) -> bool:
        """Whether what was measured is of other weights."""
        return self.checkpoint != "best" or (epoch is not None and epoch != self.epoch)
