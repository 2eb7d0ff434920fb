"""The guard that checks a command before its run directory is touched. Nothing here imports torch at module level."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from siamese.commands.messages import errors_through_hydra
from siamese.errors import ConfigError
from siamese.paths import shown
from siamese.runs.locks import claim
from siamese.training.check import check, pass_on, typed
from siamese.training.roles import follows, launched


def _require_one_folder(config: DictConfig) -> None:
    """Refuse a folder that is named by the clock where several processes would each look at theirs.

    Raises:
        ConfigError: for a new run without hydra.run.dir.
    """
    found = launched()
    said = [str(word) for word in OmegaConf.select(config, "hydra.overrides.hydra") or []]
    if found is not None and config.get("resume") is None and not any("hydra.run.dir=" in word for word in said):
        raise ConfigError(
            f"hydra.run.dir: the {found.ranks} processes of {found.by} have one folder between them; expected "
            "hydra.run.dir=outputs/NAME"
        )


@dataclass
class Call:
    """A call of :func:`siamese.train`; ``directory`` is where its run goes, once that is known."""

    directory: Path | None = None

    def refuse_devices(self, devices: int) -> None:
        """Refuse several devices: their processes would each begin with the caller's program.

        Raises:
            ConfigError: for more than one.
        """
        if devices > 1:
            raise ConfigError(
                f"device.devices={devices}: siamese.train trains on one device; for several, use the command line "
                f"({shown('train')})"
            )


calling: ContextVar[Call | None] = ContextVar("calling", default=None)  # None: a command line


class Guard(Callback):
    """Checks a run before Hydra makes or writes into its directory (a Hydra callback)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if calling.get() is not None:
            with errors_through_hydra():
                raise ConfigError(
                    "hydra.mode=MULTIRUN: siamese.train trains one run; for a sweep, use the command line "
                    f"({shown('train')} -m ...)"
                )

        if (found := launched()) is not None and found.ranks > 1:
            with errors_through_hydra():
                raise ConfigError(
                    f"hydra.mode=MULTIRUN: each of the {found.ranks} processes of {found.by} would run the sweep; "
                    "expected one run"
                )

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with errors_through_hydra():
            _require_one_folder(config)
        if follows():
            return  # its leader has done all this
        with errors_through_hydra():
            HydraConfig.instance().set_config(config)  # what interpolations such as ${hydra:...} read
            written_to = str(OmegaConf.select(config, "hydra.run.dir"))
            if not written_to:
                raise ConfigError("hydra.run.dir: expected a folder to write into, found nothing")
            command, directory = typed(config), Path(written_to)
            try:
                checked = check(command, directory)
                if (call := calling.get()) is not None:
                    call.refuse_devices(checked.device.ranks)
                    call.directory = directory.absolute()
                pass_on(command, checked)
                claim(directory)
            except OSError as error:  # a name that no file system takes, say
                raise ConfigError(f"hydra.run.dir={directory}: cannot be used ({error.strerror or error})") from None
