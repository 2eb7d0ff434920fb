"""What ``python train.py --help`` prints. Hydra's own help composes every option first, which takes a second."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from pathlib import Path

from siamese.paths import CONF

USAGE = """\
Train an embedding network on labelled images and leave a complete run directory.

Usage (siamese-train is the same command, from any folder)
  python train.py [GROUP=OPTION ...] [KEY=VALUE ...]
  python train.py -m KEY=A,B,C ...      every combination, in outputs/sweeps

Examples
  python train.py                       VGG11, triplet loss, CIFAR-10
  python train.py experiment=quickstart a minute on embedded data
  python train.py data=image_folder data.root=~/photos loss=triplet_koleo
  python train.py loss=triplet_koleo trainer.accumulate_grad_batches=8
  python train.py data=digits model=conv_small trainer.max_epochs=3 seed=0
  python train.py experiment=article    the article, triplet for triplet
  python train.py resume=outputs/RUN    go on from its last checkpoint
  python train.py resume=outputs/RUN trainer.max_epochs=30    and further
  python train.py -m loss=triplet,triplet_koleo seed=0,1,2    a sweep
  python train.py sweep=koleo_weight    a sweep as a preset
  python train.py loss=triplet_koleo --cfg job    the composed configuration

Groups and their options (conf/GROUP/OPTION.yaml)
{groups}

Keys most often set (docs/configuration.md has them all)
  data.root=PATH  data.batch_size=64  data.images_per_class=N
  data.split=by_image|by_class|kfold  data.triplets=article|fixed|resampled
  model.embedding_dim=128  model.pretrained=false  model.weights=RUN|FILE
  loss.margin=0.4  loss.koleo_weight=0.1  optimizer.lr=5e-4  seed=0
  trainer.max_epochs=15  trainer.accumulate_grad_batches=8
  callbacks.checkpoint_every_steps=N  hydra.run.dir=DIR

All keys as they are composed: python train.py --cfg job
Options of your own: --config-dir DIR.  Hydra's flags: --hydra-help."""


def wanted(words: Sequence[str]) -> bool:
    """Whether a command line asks for help."""
    return "--help" in words or "-h" in words


def text(words: Sequence[str]) -> str:
    """The help, with the options of the folders that ``words`` add by --config-dir."""
    added = [Path(after) for word, after in itertools.pairwise(words) if word in ("--config-dir", "-cd")]
    groups: dict[str, set[str]] = {}
    for folder in (CONF, *added):
        for file in folder.rglob("*.yaml"):
            if file.parent != folder and file.parent.name != "search":
                groups.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    lines = [
        textwrap.fill(f"{group}: {', '.join(sorted(options))}", 78, initial_indent="  ", subsequent_indent="      ")
        for group, options in sorted(groups.items())
        if not group.startswith("hydra/") or group == "hydra/launcher"
    ]
    return USAGE.format(groups="\n".join(lines))
