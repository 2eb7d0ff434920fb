"""Train an embedding network: python train.py [group=option ...] [key=value ...]; --help tells more."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import siamese.config.schema  # noqa: F401 (has the defaults that conf/train.yaml begins with)
from siamese.commands import help
from siamese.commands.messages import errors_in_one_line, errors_through_hydra
from siamese.commands.terminal import keep_going_without
from siamese.config.words import understood
from siamese.paths import CONF, with_own_modules
from siamese.training.roles import follows

LONGEST_NAME = 60  # characters of a name that a folder bears; each takes up to four bytes of the 255 there are


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def composed(config: DictConfig) -> None:
    """Train what Hydra has composed of a command line."""
    with errors_through_hydra():
        from siamese.training.check import typed
        from siamese.training.run import train

        train(typed(config), Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """The command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us whole, and errors_in_one_line words them
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: huge pages for large tensors, fewer page faults
    keep_going_without()
    if help.wanted(sys.argv[1:]):
        print(help.text(sys.argv[1:]))
        return
    with errors_in_one_line():
        with_own_modules()
        sys.argv[1:] = understood(sys.argv[1:])
        composed()


def _run_dir(resume: str | None, now: str, name: object) -> str:
    """outputs/TIME_NAME, or the directory that is gone on with. A name may be anything, its folder a folder name."""
    if resume is not None:
        return str(Path(resume))
    readable = re.sub(r"[^\w.,=+@ -]+", "_", str(name))
    return f"outputs/{now}_{readable[:LONGEST_NAME]}"


def _hydra_subdir(resume: str | None) -> str | None:
    # A process that follows writes nothing.
    return ".hydra" if resume is None and not follows() else None  # a resumed run keeps the record of its first command


OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
OmegaConf.register_new_resolver("hydra_subdir", _hydra_subdir, replace=True)
