"""Train an embedding network: python train.py [group=option ...] [key=value ...]; --help tells more."""

from __future__ import annotations

import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import siamese.config.schema  # noqa: F401 (has the defaults that conf/train.yaml begins with)
from siamese.commands.messages import errors_in_one_line
from siamese.paths import CONF


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def composed(config: DictConfig) -> None:
    """Train what Hydra has composed of a command line."""
    with errors_in_one_line():
        from siamese.training.check import typed
        from siamese.training.run import train

        train(typed(config), Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """The command line."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us whole, and errors_in_one_line words them
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: huge pages for large tensors, fewer page faults
    with errors_in_one_line():
        composed()


def _run_dir(resume: str | None, fresh: str) -> str:
    return fresh if resume is None else str(Path(resume))


def _hydra_subdir(resume: str | None) -> str | None:
    return ".hydra" if resume is None else None  # a resumed run keeps the record of its first command


OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
OmegaConf.register_new_resolver("hydra_subdir", _hydra_subdir, replace=True)
