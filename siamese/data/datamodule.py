"""The LightningDataModule: items over one uint8 tensor, pixels made on the device."""

from __future__ import annotations

import copy
import dataclasses
import logging
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from siamese.config.data import Data
from siamese.data.augment import make_augmentation
from siamese.data.batch import Batch, Epoch, Tuples
from siamese.data.batches import Kind, Segment, Training, Triplets
from siamese.data.batches.kind import drawn_triplets
from siamese.data.batches.pairs import drawn_pairs
from siamese.data.draws import alternating, generator
from siamese.data.duplicates import settle
from siamese.data.facts import data_facts, split_facts
from siamese.data.gather import AHEAD, Ahead, fits, held
from siamese.data.images import NO_CLASS, LabelledImages, kept, moments
from siamese.data.loader import EpochLoader, ImageLoader, Loader, RankLoader
from siamese.data.splits import split_images
from siamese.data.tuples import article_split, keep_apart
from siamese.errors import ConfigError
from siamese.runs.provenance import fingerprint

log = logging.getLogger(__name__)


class SiameseData(pl.LightningDataModule):
    """Training items of each epoch, and fixed validation and test triplets.

    Attributes:
        kind: what a micro-batch holds.
        parts: the image indices that each of train, validation and test may use.
        layout: how the images of a training item lie in a batch.
        duplicates: pairs [P, 2] of images with the same pixels that should be apart.
        triplets: the fixed triplets [T, 3] of validation and test, indices into the images; the same
            for every kind of batches, so that runs compare.
    """

    def __init__(
        self, source: LabelledImages, data: Data, seed: int, kind: Kind | None = None, devices: int = 1
    ) -> None:
        """Split ``source`` and form what is fixed of its tuples, for so many ``devices`` to train on at once.

        Raises:
            ConfigError: for classes too small to split or to form tuples of, and for a batch larger
                than the split or with nothing for one of the devices.
        """
        super().__init__()
        self.source, self.config, self.seed, self.devices = source, data, seed, devices
        self.kind = kind or Triplets()
        self.layout = self.kind.layout
        self.augment = make_augmentation(data)
        self._labels = source.labels.numpy()
        split, self.duplicates = settle(source, split_images(source, data, seed), data.duplicates)
        self.parts = {"train": split.train, "validation": split.validation, "test": split.test}
        self.triplets: dict[str, np.ndarray] = {}
        for remark in split.remarks:
            log.warning("%s", remark)
        self.kind.check_classes(self._labels[split.train], source.more_labels)
        if data.split == "article":
            train, validation = article_split(
                self._labels[split.train], data.negatives_per_class, seed, data.val_fraction
            )
            self.parts["train"] = np.unique(split.train[train])
            self.parts["validation"] = np.unique(split.train[validation])
            places = np.searchsorted(self.parts["validation"], split.train[validation])
            self.triplets["validation"] = self.parts["validation"][self._apart("validation", places)]
            fixed: np.ndarray | None = np.searchsorted(self.parts["train"], split.train[train])
        else:
            self.triplets["validation"] = self._triplets("validation")
            fixed = self.kind.fixed(self._labels[split.train], data, seed)
        self.triplets["test"] = self._triplets("test")
        fixed = None if fixed is None else self._apart("train", fixed)
        self._training = Training(self._labels[self.parts["train"]], fixed, data, seed)
        self.loader = self._make_loader()
        self.mean, self.std = self._moments()
        self._pixels: Tensor | None = None  # all images, on the device that holds them
        self._on_device: dict[torch.device, bool] = {}
        self._found: dict[str, Any] = {}  # the items of the segment that is in use, where the network decides on them

    def _triplets(self, part: str) -> np.ndarray:
        index = self.parts[part]
        return index[self._apart(part, drawn_triplets(self._labels[index], None, self.seed, part))]

    def _apart(self, part: str, items: np.ndarray, *place: int) -> np.ndarray:
        """``items``, positions in ``part``, without negatives that share one of several classes with their anchor."""
        more, index = self.source.more_labels, self.parts[part]
        if more is None:
            return items
        of_part = more[np.isin(more[:, 0], index)]
        of_part = np.column_stack([np.searchsorted(index, of_part[:, 0]), of_part[:, 1]])
        random = generator(self.seed, f"{part} several classes", *place)
        return keep_apart(items, self._labels[index], of_part, random)

    def _items(self, epoch: int, segment: Segment) -> np.ndarray:
        """The items of a segment of ``epoch``, indices into the images."""
        items = self.kind.items(self._training, epoch, segment)
        return self.parts["train"][self._apart("train", items, epoch, segment.number)]

    def pairs(self, part: str) -> np.ndarray:
        """Pairs [P, 2] to measure pair accuracy on, indices into the images: of train those that it
        trains on (of epoch 0 where they change), of validation and test consecutive ones."""
        index = self.parts[part]
        if part == "train":
            fixed = self._training.fixed
            return self._items(0, self._whole_epoch) if fixed is None else index[fixed]
        return index[self._apart(part, drawn_pairs(self._labels[index], None, self.seed, part))]

    def measured(self, part: str) -> list[tuple[Tensor, Tuples]]:
        """What the loss of validation or test is the mean over: rows of ``parts[part]``, and the tuples
        among them as in training."""
        index = self.parts[part]
        triplets = np.searchsorted(index, self.triplets[part])
        return self.kind.measured(self._labels[index], triplets, self.seed, part)

    # -- training ------------------------------------------------------------------------------

    def _make_loader(self) -> EpochLoader:
        kind, labels = self.kind, self._training.labels
        found, counts = np.unique(labels[labels != NO_CLASS], return_counts=True)
        names = tuple(self.source.class_names[label] for label in found)
        batch_items = self.batch_size // kind.counted
        each = f" for each of {self.devices} devices" * (self.devices > 1)
        asked = f"data.batch_size={self.config.batch_size}{each}"
        kind.check(counts, names, batch_items, asked)
        items = kind.length(self._training)
        if self.batch_size > items * kind.counted:
            raise ConfigError(f"{asked}: the training split has only {items * kind.counted} {kind.unit}")
        labels_of_all, whole = self.source.labels, kind.counted > 1
        loader = EpochLoader(
            self.layout, self._segment, items, labels_of_all, batch_items, whole=whole, segments=kind.segments
        )
        loader.check(kind.item, self.config.batch_size, self.devices)
        loader.epoch, loader.position = self._current_epoch, self._current_position
        return loader

    def recut(self, batch_size: int, devices: int) -> SiameseData:
        """The same data in other micro-batches, for so many ``devices``; ConfigError as from :meth:`__init__`."""
        other = copy.copy(self)
        other.config, other.devices = dataclasses.replace(self.config, batch_size=batch_size), devices
        other._training, other._found = self._training._replace(data=other.config), {}
        other.loader = other._make_loader()
        return other

    @property
    def batch_size(self) -> int:
        """What a micro-batch of all devices holds, in ``kind.unit``."""
        return int(self.config.batch_size) * self.devices

    def _current_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _current_position(self) -> int:
        """The micro-batches of the epoch that are behind us, in this process or one before."""
        return self.trainer.fit_loop.batch_idx + 1 if self.trainer else 0

    @property
    def _whole_epoch(self) -> Segment:
        return Segment(0, len(self.loader), self.loader.batch_size, self._embed_training)

    def epoch(self, epoch: int) -> Epoch:
        """The items of ``epoch`` in their order, with their draws, for a kind whose items need no network."""
        items = torch.from_numpy(self._items(epoch, self._whole_epoch))
        return Epoch(items, self._draws(epoch, items))

    def _draws(self, epoch: int, items: Tensor, first: int = 0) -> Tensor:
        """The draws [T, K, D] of ``items`` [T, K], of ``epoch`` from place ``first`` on; some are by image."""
        random = generator(self.seed, "augmentation", epoch)
        shape = (first + len(items), items.shape[1], self.augment.draws if self.augment else 0)
        draws = torch.from_numpy(random.random(shape, dtype=np.float32)[first:])
        for column in self.augment.alternating if self.augment else ():
            draws[..., column] = torch.from_numpy(alternating(self.seed, column, len(self._labels), epoch))[items]
        return draws

    def _segment(self, epoch: int, number: int) -> Epoch:
        """The items of a segment. Where they follow from the network, one that was begun before a stop is in the
        checkpoint, since the weights have gone on."""
        if not self.kind.follows_network:
            return self.epoch(epoch)
        place = [epoch, number]
        start, end = self.loader.segment(number)
        if self._found.get("place") != place or self.loader.position() == start:
            segment = Segment(number, end - start, self.loader.batch_size, self._embed_training)
            found = {"place": place, "items": torch.from_numpy(self._items(epoch, segment))}
            # Devices may differ in the last bits of embeddings, and so in what they find: all take the first's.
            self._found = self.trainer.strategy.broadcast(found) if self.trainer else found
        items = self._found["items"]
        return Epoch(items, self._draws(epoch, items, start * self.loader.batch_size))

    def _embed_training(self) -> np.ndarray:
        """Embeddings float32 [n, D] of the training images by the network as it is, in evaluation mode."""
        assert self.trainer is not None
        net: Any = self.trainer.lightning_module.net
        device, training, chunks = self.trainer.strategy.root_device, net.training, []
        net.eval()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            # On each of several devices, which all get here.
            for batch in self.images_of(self.parts["train"], self.config.eval_batch_size):
                moved = batch._replace(images=batch.images.to(device), labels=batch.labels.to(device))
                chunks.append(net(self.on_after_batch_transfer(moved, 0).images).float().cpu())
        net.train(training)
        return torch.cat(chunks).numpy()

    def state_dict(self) -> dict[str, Any]:
        return self._found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._found = state_dict

    # -- what a run says about its data ----------------------------------------------------------

    def _moments(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation a channel, given or of the training images, in [0, 1]."""
        if self.config.mean is not None and self.config.std is not None:
            return self.config.mean, self.config.std
        images, training = self.source.images, self.parts["train"]
        mean, std = kept(images, "moments", fingerprint(training), lambda: moments(images, training))
        return mean, std

    def facts(self) -> dict[str, object]:
        """What identifies the data and the split, for the manifest."""
        first = None if self.kind.follows_network else self._items(0, self._whole_epoch)
        items = {self.kind.item: self.loader.items}
        return {
            "data": data_facts(self.source, self.config.source_name, self.mean, self.std),
            "split": split_facts(self.source, self.parts, self.triplets, items, first),
        }

    def train_dataloader(self) -> Loader:
        rank, ranks = self._rank()
        # What is drawn from the network is drawn when it is wanted, not ahead of the steps before it.
        ahead = 0 if self.kind.follows_network else AHEAD
        part: Loader = self.loader if ranks == 1 else RankLoader(self.loader, self.layout, rank, ranks)
        return self._with_pixels(part, ahead)

    def _rank(self) -> tuple[int, int]:
        """Which of how many devices this process trains on."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def val_dataloader(self) -> Loader:
        return self._images("validation")

    def test_dataloader(self) -> Loader:
        return self._images("test")

    def predict_dataloader(self) -> Loader:
        """The training images, to be embedded as they are."""
        return self._images("train")

    def has_views(self, part: str) -> bool:
        """Whether the images of ``part`` are embedded once more, in another view, since they have no classes."""
        return part != "train" and bool((self._labels[self.parts[part]] == NO_CLASS).all())

    def _images(self, part: str) -> Loader:
        """The images of ``part`` that are for this of several devices to embed."""
        rank, ranks = self._rank()
        mine, draws = np.array_split(self.parts[part], ranks)[rank], None
        if self.has_views(part):
            shape = (len(self.parts[part]), self.augment.draws if self.augment else 0)
            every = generator(self.seed, f"{part} views").random(shape, dtype=np.float32)
            draws = torch.from_numpy(np.array_split(every, ranks)[rank])
        return self.images_of(mine, self.config.eval_batch_size, draws)

    def images_of(self, index: np.ndarray, size: int, views: Tensor | None = None) -> Loader:
        return self._with_pixels(ImageLoader(torch.from_numpy(index), self.source.labels, size, views))

    def _with_pixels(self, loader: Loader, ahead: int = AHEAD) -> Loader:
        """``loader``, with pixels where the device does not hold them all."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if self._holds(device):
            return loader
        return Ahead(loader, self.source.images, ahead=ahead, pin=device.type == "cuda")

    def _holds(self, device: torch.device) -> bool:
        """Whether all images are held on ``device``, as was decided when they were first wanted there."""
        if device not in self._on_device:
            images = self.source.images
            here = isinstance(images, Tensor) and images.device == device
            self._on_device[device] = here or fits(images, device, self.config.device_budget)
        return self._on_device[device]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment the batch's images on its device, gathered there if all are held on it."""
        device, images = batch.labels.device, batch.images
        if images.dim() == 1:
            if self._pixels is None or self._pixels.device != device:
                self._pixels = held(self.source.images, device)
            images = self._pixels[images.to(device)]
        if batch.draws is not None and self.augment is not None:
            images = self.augment(images, batch.draws)
        return batch._replace(images=images)
