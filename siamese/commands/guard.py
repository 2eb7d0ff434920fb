"""The guard that checks a command before its run directory is touched. Nothing here imports torch at module level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from siamese.commands.messages import errors_in_one_line
from siamese.errors import ConfigError
from siamese.runs.locks import claim
from siamese.training.check import check, pass_on, typed
from siamese.training.roles import follows


class Guard(Callback):
    """Checks a run before Hydra makes or writes into its directory (a Hydra callback)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if follows():
            return  # its leader has done all this
        with errors_in_one_line():
            HydraConfig.instance().set_config(config)  # what interpolations such as ${hydra:...} read
            written_to = str(OmegaConf.select(config, "hydra.run.dir"))
            if not written_to:
                raise ConfigError("hydra.run.dir: expected a folder to write into, found nothing")
            command, directory = typed(config), Path(written_to)
            try:
                pass_on(command, check(command, directory))
                claim(directory)
            except OSError as error:  # a name that no file system takes, say
                raise ConfigError(f"hydra.run.dir={directory}: cannot be used ({error.strerror or error})") from None
