"""The LightningDataModule: items over one uint8 tensor, pixels made on the device."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from siamese.artifacts import fingerprint
from siamese.data.balanced import class_groups
from siamese.data.batches import Batch, Epoch, EpochLoader, ImageLoader, Tuples, crop_and_flip, indices_tuple
from siamese.data.draws import generator
from siamese.data.items import IMAGES, ITEMS, drawn_pairs, drawn_triplets, epoch_items, fixed_items
from siamese.data.layout import Layout
from siamese.data.magnet import cluster_groups
from siamese.data.ranks import RankLoader
from siamese.data.sources import LabelledImages
from siamese.data.splits import split_images
from siamese.data.tuples import article_split, check_classes
from siamese.errors import ConfigError
from siamese.schema import Batches, Data

MEASURED = 64  # triplets or pairs that a loss is measured on at a time
EVALUATED = ("validation", "test")
TRIPLETS = Batches()


class SiameseData(pl.LightningDataModule):
    """Training items of each epoch, and fixed validation and test triplets.

    Attributes:
        parts: the image indices that each of train, validation and test may use.
        layout: how the images of a training item lie in a batch.
        triplets: the fixed triplets [T, 3] of validation and test, indices into the images; the same
            for every kind of batches, so that runs compare.
    """

    def __init__(
        self, source: LabelledImages, data: Data, seed: int, batches: Batches = TRIPLETS, devices: int = 1
    ) -> None:
        """Split ``source`` and form what is fixed of its tuples, for so many ``devices`` to train on at once.

        Raises:
            ConfigError: for classes too small to split or to form tuples of, and for a batch larger
                than the split or with nothing for one of the devices.
        """
        super().__init__()
        self.source, self.config, self.batches, self.seed, self.devices = source, data, batches, seed, devices
        self.layout = Layout(IMAGES.get(batches.kind) or self.group, partial(indices_tuple, batches.kind))
        self._labels = source.labels.numpy()
        split = split_images(source, data, seed)
        self.parts = {"train": split.train, "validation": split.validation, "test": split.test}
        self.triplets: dict[str, np.ndarray] = {}
        for part, index in self.parts.items():
            if len(index):
                check_classes(self._labels, index, source.class_names, f"{part} images")
        if data.split == "article":
            train, validation = article_split(self._labels[split.train], data.negatives_per_class, seed)
            self.triplets["validation"] = split.train[validation]
            self.parts["train"] = np.unique(split.train[train])
            self.parts["validation"] = np.unique(self.triplets["validation"])
            self._fixed: np.ndarray | None = np.searchsorted(self.parts["train"], split.train[train])
        else:
            self.triplets["validation"] = self._triplets("validation")
            self._fixed = fixed_items(self._labels[split.train], data, batches, seed)
        self.triplets["test"] = self._triplets("test")
        self.loader = self._make_loader()
        self.mean, self.std = self._moments()
        self._pixels = source.images
        self._found: dict[str, Any] = {}  # the cluster groups that are in use, and the segment they are for

    def _triplets(self, part: str) -> np.ndarray:
        index = self.parts[part]
        return index[drawn_triplets(self._labels[index], None, self.seed, part)]

    def pairs(self, part: str) -> np.ndarray:
        """Pairs [P, 2] to measure pair accuracy on, indices into the images: of train those that it
        trains on (of epoch 0 where they change), of validation and test consecutive ones."""
        index = self.parts[part]
        if part == "train":
            return index[self._epoch_items(0) if self._fixed is None else self._fixed]
        return index[drawn_pairs(self._labels[index], None, self.seed, part)]

    def measured(self, part: str) -> list[tuple[Tensor, Tuples]]:
        """What the loss of validation or test is the mean over: rows of ``parts[part]``, and the tuples
        among them as in training.

        Triplets and pairs, which also stand for views, come MEASURED at a time, evenly spaced among all,
        so that every class is in each. A loss that finds its tuples by labels (or clusters, for which
        classes stand here) gets one group a class at a time. Neither depends on ``data.batch_size``,
        so that runs compare.
        """
        kind, index = self.batches.kind, self.parts[part]
        if kind in ("triplets", "pairs", "views"):
            triplets = torch.from_numpy(np.searchsorted(index, self.triplets[part]))
            batches = -(-len(triplets) // MEASURED)
            chosen = [triplets[first::batches].t() for first in range(batches)]
            places = [torch.arange(c.numel()).view(3, -1) for c in chosen]
            forms = [(a, p, n) if kind == "triplets" else (a, p, a, n) for a, p, n in places]
            return [(c.reshape(-1), tuples) for c, tuples in zip(chosen, forms, strict=True)]
        labels = self._labels[index]
        size = min(self.group, int(np.bincount(labels).min()))
        groups = torch.from_numpy(class_groups(labels, size, generator(self.seed, f"{part} class groups")))
        rows = groups.view(-1, len(self.source.class_names), size).transpose(1, 2)
        return [(r.reshape(-1), indices_tuple(kind, torch.from_numpy(labels)[r])) for r in rows]

    # -- training ------------------------------------------------------------------------------

    def _make_loader(self) -> EpochLoader:
        kind, group = self.batches.kind, self.group
        self._check_groups()
        magnet = kind == "magnet"
        items = len(self.parts["train"]) // group if magnet else len(self._epoch_items(0))
        unit = ITEMS[kind] if group == 1 else "images"
        if self.batch_size > items * group:
            raise ConfigError(f"{self._asked}: the training split has only {items * group} {unit}")
        loader = EpochLoader(
            kind,
            self._cluster_groups if magnet else lambda epoch, _: self.epoch(epoch),
            items,
            self.source.labels,
            self.batch_size // group,
            whole=group > 1,
            segments=self.batches.refreshes or 1,
        )
        if loader.last < self.devices:
            raise ConfigError(
                f"data.batch_size={self.config.batch_size}: the last micro-batch of an epoch has {loader.last} "
                f"{ITEMS[kind]}, fewer than device.devices={self.devices}"
            )
        if magnet and len(loader) < loader.segments:
            raise ConfigError(f"batches.refreshes={loader.segments}: an epoch has only {len(loader)} micro-batches")
        loader.epoch, loader.position = self._current_epoch, self._current_position
        return loader

    @property
    def batch_size(self) -> int:
        """Of the devices together."""
        return self.config.batch_size * self.devices

    @property
    def _asked(self) -> str:
        each = f" for each of {self.devices} devices" * (self.devices > 1)
        return f"data.batch_size={self.config.batch_size}{each}"

    @property
    def group(self) -> int:
        """Images of a class group or cluster group; 1 for other items."""
        return self.batches.images_per_class or self.batches.images_per_cluster or 1

    def _check_groups(self) -> None:
        """Refuse groups that some class is too small for, and a micro-batch of more groups than there are."""
        names, per_class = self.source.class_names, self.batches.images_per_class
        counts = np.bincount(self._labels[self.parts["train"]], minlength=len(names))
        for key in ("images_per_class", "clusters_per_class"):
            wanted = getattr(self.batches, key)
            if wanted is not None and counts.min() < wanted:
                raise ConfigError(
                    f"batches.{key}={wanted}: class {names[counts.argmin()]!r} has only {counts.min()} training images"
                )
        groups = self.batch_size // self.group
        if per_class is not None and groups > len(names):
            raise ConfigError(
                f"{self._asked}: with batches.images_per_class={per_class} a micro-batch "
                f"holds {groups} classes; expected at most the {len(names)} there are"
            )
        clusters = self.batches.clusters_per_class
        if clusters is not None and groups > 1 + clusters * (len(names) - 1):
            raise ConfigError(
                f"{self._asked}: with batches.images_per_cluster={self.group} a micro-batch "
                f"holds {groups} clusters; expected at most {1 + clusters * (len(names) - 1)}, one of a class and all "
                f"{clusters} of each other"
            )

    def _current_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _current_position(self) -> int:
        """The micro-batches of the epoch that are behind us, in this process or one before."""
        return self.trainer.fit_loop.batch_idx + 1 if self.trainer else 0

    def _epoch_items(self, epoch: int) -> np.ndarray:
        labels = self._labels[self.parts["train"]]
        return epoch_items(labels, self._fixed, self.config, self.batches, self.seed, epoch)

    def epoch(self, epoch: int) -> Epoch:
        """The items of ``epoch`` in their order, with the draws of their places; not for magnet, whose
        items depend on the network."""
        items = self.parts["train"][self._epoch_items(epoch)]
        return Epoch(torch.from_numpy(items), self._draws(epoch, *items.shape))

    def _draws(self, epoch: int, count: int, images: int) -> Tensor:
        random = generator(self.seed, "augmentation", epoch)
        return torch.from_numpy(random.random((count, images, 3), dtype=np.float32))

    def _cluster_groups(self, epoch: int, segment: int) -> Epoch:
        """The cluster groups of a segment, found with the weights that the network has as it begins.
        One that was begun before a stop is in the checkpoint, since the weights have gone on."""
        place = [epoch, segment]
        start, end = self.loader.segment(segment)
        if self._found.get("place") != place or self.loader.position() == start:
            train, batches = self.parts["train"], self.batches
            assert batches.clusters_per_class is not None
            groups = cluster_groups(
                self._embed(train),
                self._labels[train],
                clusters_per_class=batches.clusters_per_class,
                images_per_cluster=self.group,
                clusters_per_batch=self.loader.batch_size,
                batches=end - start,
                seed=self.seed,
                place=(epoch, segment),
            )
            self._found = {"place": place, "items": torch.from_numpy(train[groups])}
        draws = self._draws(epoch, self.loader.items, self.group)
        first = start * self.loader.batch_size
        return Epoch(self._found["items"], draws[first : first + len(self._found["items"])])

    def _embed(self, index: np.ndarray) -> np.ndarray:
        """Embeddings float32 [n, D] of images by the network as it is, in evaluation mode."""
        assert self.trainer is not None
        net: Any = self.trainer.lightning_module.net
        device, training, chunks = self.trainer.strategy.root_device, net.training, []
        net.eval()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            for batch in self._images(index):
                moved = batch._replace(labels=batch.labels.to(device))
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
        counts = np.zeros((self.source.images.shape[1], 256))
        for images in self.source.images[torch.from_numpy(self.parts["train"])].split(4096):
            for channel, values in enumerate(images.transpose(0, 1)):
                counts[channel] += torch.bincount(values.reshape(-1), minlength=256).numpy()
        levels, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt(shares @ levels**2 - mean**2).clip(min=1 / 255)
        return [float(m) for m in mean.round(6)], [float(s) for s in std.round(6)]

    def facts(self) -> dict[str, object]:
        """What identifies the data and the split, for the manifest."""
        ids = self.source.ids
        return {
            "data": {
                "source": self.config.source,
                "images": len(ids),
                "classes": list(self.source.class_names),
                "fingerprint": self.source.fingerprint,
                "mean": self.mean,
                "std": self.std,
            },
            "split": {
                **{part: len(index) for part, index in self.parts.items()},
                f"train_{ITEMS[self.batches.kind]}": self.loader.items,
                **{f"{part}_triplets": len(t) for part, t in self.triplets.items()},
                "fingerprint": fingerprint(
                    *(ids[i] for i in self.parts.values()), *(ids[t] for t in self.triplets.values())
                ),
            },
        }

    def train_dataloader(self) -> EpochLoader | RankLoader:
        rank, ranks = self._rank()
        return self.loader if ranks == 1 else RankLoader(self.loader, self.layout, rank, ranks)

    def _rank(self) -> tuple[int, int]:
        """Which of how many devices this process trains on."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def val_dataloader(self) -> ImageLoader:
        return self._images(self.parts["validation"])

    def test_dataloader(self) -> ImageLoader:
        return self._images(self.parts["test"])

    def predict_dataloader(self) -> ImageLoader:
        """The training images, to be embedded as they are."""
        return self._images(self.parts["train"])

    def _images(self, index: np.ndarray) -> ImageLoader:
        rank, ranks = self._rank()
        mine = torch.from_numpy(np.array_split(index, ranks)[rank])
        return ImageLoader(mine, self.source.labels, self.config.eval_batch_size)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Gather the batch's images and augment them, on its device."""
        device = batch.labels.device
        pixels = self._pixels_on(device)
        images = pixels[batch.images.to(pixels.device)].to(device, non_blocking=True)
        augment = self.config.augment
        if batch.draws is not None and (augment.crop_padding or augment.flip):
            images = crop_and_flip(images, batch.draws, augment.crop_padding, augment.flip)
        return batch._replace(images=images)

    def _pixels_on(self, device: torch.device) -> Tensor:
        """The data set on ``device``, moved there once if it takes at most half of what is free."""
        if device.type == "cuda" and self._pixels.device.type == "cpu" and not self._pixels.is_pinned():
            free, _ = torch.cuda.mem_get_info(device)
            fits = self.source.images.nbytes <= free // 2
            self._pixels = self.source.images.to(device) if fits else self.source.images.pin_memory()
        elif device.type == "mps" and self._pixels.device.type == "cpu":
            self._pixels = self.source.images.to(device)
        return self._pixels
