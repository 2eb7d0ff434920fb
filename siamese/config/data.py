"""The keys of ``data``: see :mod:`siamese.config.schema`."""

# ruff: noqa: RUF009 (key and where make fields)
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from siamese.config.fields import key, where
from siamese.config.ranges import BATCH_SIZE, CHANNELS, COLOUR, DEVIATIONS, SIZE, above, at_least, between, one_of
from siamese.config.values import height_width


@dataclass(frozen=True)
class Data:
    """Labelled images, and how they are split and made into tuples."""

    source: dict[str, Any] = key({}, None, "the function that returns them, as _target_, with its own arguments")
    root: str | None = where(None, None, "where the images are")
    download: bool = where(False, None, "whether to fetch what is not there")
    labels: str | None = where(None, None, "a file of labels: path,label[,split,group,query,gallery]")
    image_size: Any = key(32, SIZE, "height and width that images are brought to; [HEIGHT, WIDTH] if they differ")
    fit: str = key(
        "crop",
        one_of("crop", "pad", "stretch"),
        "images of another shape: the centre | whole, with a border of data.background | out of proportion",
    )
    background: list[int] = key([255, 255, 255], COLOUR, "behind what is transparent, and beside data.fit=pad")
    damaged: str = key("refuse", one_of("refuse", "skip"), "files that cannot be decoded")
    duplicates: str = key(
        "warn",
        one_of("warn", "refuse", "drop_from_train"),
        "the same pixels in training and test, or in two classes",
    )
    group: str | None = key(
        None, None, "what belongs in one part: a column of data.labels, or a pattern whose (…) names it in an id"
    )
    cache_dir: str | None = where(None, None, "of decoded folders; null = $XDG_CACHE_HOME/siamese or ~/.cache/siamese")
    decode_workers: int = where(2, at_least(1), "images decoded at a time, by a thread each")
    images_per_class: int | None = key(None, at_least(2), "a stratified subset of the training images")
    split: str = key(
        "by_image",
        one_of("by_image", "by_class", "kfold", "article"),
        "by_class: validation and test have classes of their own; article: its own triplets, which share images",
    )
    val_fraction: float = key(
        0.05, between(0, 1), "of the training images (or classes), held out before any tuple is formed"
    )
    test_fraction: float = key(0.1, between(0, 1), "held out likewise, where the source has no test part of its own")
    folds: int = key(5, at_least(2))
    fold: int = key(0, at_least(0), "which of the folds validates, under split=kfold")
    fold_over: str = key("images", one_of("images", "classes", "groups"), "what a fold holds, under split=kfold")
    small_classes: str = key(
        "refuse",
        one_of("refuse", "train_only", "drop"),
        "classes with too few images to be held out or paired",
    )
    triplets: str = key(
        "article",
        one_of("article", "fixed", "resampled"),
        "how triplets and pairs are formed: of consecutive images | drawn once | drawn anew each epoch",
    )
    negatives_per_class: int | None = key(
        2500, at_least(1), "triplets, or pairs of two classes, a class and epoch, at most; null = as many as there are"
    )
    batch_size: Any = key(
        64, BATCH_SIZE, "triplets, pairs or images in a micro-batch, as batches= says; auto = as many as memory takes"
    )
    effective_batch_size: int | None = key(
        None, at_least(1), "of them behind an optimizer step: the window follows; null = batch_size × window × devices"
    )
    device_budget: float | None = where(
        None, above(0), "GB of images that are held on the device; null = a quarter of what is free there"
    )
    eval_batch_size: int = where(256, at_least(1), "images embedded at a time when nothing is trained")
    mean: list[float] | None = key(None, CHANNELS, "of each channel, in [0, 1]; null = of the training images")
    std: list[float] | None = key(None, DEVIATIONS, "likewise")
    augment: dict[str, Any] = key(
        {"_target_": "siamese.data.augment.CropFlip"}, None, "how training images are changed, of augment="
    )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return height_width(self.image_size)

    @property
    def source_name(self) -> str:
        """What the source is called: the last part of its target."""
        return str(self.source["_target_"]).rpartition(".")[2]


# What a source is handed of the keys of ``data``, where it takes an argument of that name.
HANDED_TO_SOURCE = (
    "root",
    "download",
    "labels",
    "group",
    "image_size",
    "fit",
    "background",
    "damaged",
    "cache_dir",
    "decode_workers",
)


# Of them, those that a source without files has no use for.
OF_FILES = ("root", "labels", "fit", "background", "damaged")
