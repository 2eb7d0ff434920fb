"""Train an embedding network: python train.py [group=option ...] [key=value ...]; --help tells more."""

import os

import hydra
from omegaconf import DictConfig

from siamese.command_line import errors_in_one_line

os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us whole, and errors_in_one_line words them
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: huge pages for large tensors, fewer page faults


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    with errors_in_one_line():
        from siamese.run import train

        train(cfg)


if __name__ == "__main__":
    with errors_in_one_line():
        main()
