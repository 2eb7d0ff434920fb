"""The LightningDataModule: index tuples over one uint8 tensor, pixels made on the device."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from siamese.artifacts import fingerprint
from siamese.config import ConfigError
from siamese.data.batches import Batch, Epoch, ImageLoader, TripletLoader, crop_and_flip
from siamese.data.draws import generator
from siamese.data.sources import LabelledImages
from siamese.data.splits import split_images
from siamese.data.tuples import article_split, article_triplets, check_classes, draw_triplets
from siamese.schema import Data

EVALUATED = ("validation", "test")


class TripletData(pl.LightningDataModule):
    """Training triplets of each epoch, and fixed validation and test triplets.

    Attributes:
        parts: the image indices that each of train, validation and test may use.
        triplets: the fixed triplets [T, 3] of validation and test, indices into the images.
    """

    def __init__(self, source: LabelledImages, data: Data, seed: int) -> None:
        """Split ``source`` and form its triplets.

        Raises:
            ConfigError: for classes too small to split or to form triplets of, and for a batch
                larger than the split.
        """
        super().__init__()
        self.source, self.config, self.seed = source, data, seed
        self._labels = source.labels.numpy()
        split = split_images(source, data, seed)
        self.parts = {"train": split.train, "validation": split.validation, "test": split.test}
        self.triplets: dict[str, np.ndarray] = {}
        self._fixed: np.ndarray | None = None
        for part, index in self.parts.items():
            if len(index):
                check_classes(self._labels, index, source.class_names, f"{part} images")
        if data.split == "article":
            train, validation = article_split(self._labels[split.train], data.negatives_per_class, seed)
            self._fixed = split.train[train]
            self.triplets["validation"] = split.train[validation]
            self.parts = {
                "train": np.unique(self._fixed),
                "validation": np.unique(self.triplets["validation"]),
                "test": split.test,
            }
        else:
            self.triplets["validation"] = self._draw("validation", None)
            if data.triplets == "article":
                random = np.random.RandomState(seed)
                chosen = article_triplets(self._labels[split.train], data.negatives_per_class, random)
                self._fixed = split.train[chosen]
            elif data.triplets == "fixed":
                self._fixed = self._draw("train", data.negatives_per_class)
        self.triplets["test"] = self._draw("test", None)
        self._train_count = len(self._epoch_triplets(0))
        if data.batch_size > self._train_count:
            raise ConfigError(
                f"data.batch_size={data.batch_size}: the training split has only {self._train_count} triplets"
            )
        self.loader = TripletLoader(self.epoch, self._train_count, source.labels, data.batch_size)
        self.loader.epoch, self.loader.position = self._current_epoch, self._current_position
        self.mean, self.std = self._moments()
        self._pixels = source.images

    def _current_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _current_position(self) -> int:
        """The micro-batches of the epoch that are behind us, in this process or one before."""
        return self.trainer.fit_loop.batch_idx + 1 if self.trainer else 0

    def _draw(self, part: str, per_class: int | None, *place: int) -> np.ndarray:
        index = self.parts[part]
        random = generator(self.seed, f"{part} triplets", *place)
        return index[draw_triplets(self._labels[index], per_class, random)]

    def _epoch_triplets(self, epoch: int) -> np.ndarray:
        if self._fixed is not None:
            return self._fixed
        return self._draw("train", self.config.negatives_per_class, epoch)

    def epoch(self, epoch: int) -> Epoch:
        """The triplets of ``epoch`` in their order, with the draws of their places."""
        triplets = self._epoch_triplets(epoch)
        order = generator(self.seed, "order", epoch).permutation(len(triplets))
        draws = generator(self.seed, "augmentation", epoch).random((len(triplets), 3, 3), dtype=np.float32)
        return Epoch(torch.from_numpy(triplets[order]), torch.from_numpy(draws))

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
                "train_triplets": self._train_count,
                **{f"{part}_triplets": len(t) for part, t in self.triplets.items()},
                "fingerprint": fingerprint(
                    *(ids[i] for i in self.parts.values()), *(ids[t] for t in self.triplets.values())
                ),
            },
        }

    def train_dataloader(self) -> TripletLoader:
        return self.loader

    def val_dataloader(self) -> ImageLoader:
        return self._images("validation")

    def test_dataloader(self) -> ImageLoader:
        return self._images("test")

    def _images(self, part: str) -> ImageLoader:
        index = torch.from_numpy(self.parts[part])
        return ImageLoader(index, self.source.labels, self.config.eval_batch_size)

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
