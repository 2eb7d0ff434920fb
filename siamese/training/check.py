"""What a command asks for, checked once, before anything is written. Imports torch only where a check needs it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from siamese.config.schema import Config
from siamese.config.targets import check_targets
from siamese.config.trust import with_typed_targets
from siamese.config.validate import validate
from siamese.config.words import pasteable
from siamese.errors import ConfigError
from siamese.paths import near, shown
from siamese.runs.read import holds_a_run
from siamese.training.resume import resumed_config
from siamese.training.roles import follows


class Command(NamedTuple):
    """What was typed.

    Attributes:
        composed: what Hydra has composed of it, without its own node.
        words: the overrides.
        config_dirs: folders of options that were added.
    """

    composed: DictConfig
    words: tuple[str, ...] = ()
    config_dirs: tuple[Path, ...] = ()


_passed: list[tuple[Command, Config]] = []  # what the guard has checked for the run that this process begins


def check(command: Command, directory: Path) -> Config:
    """The configuration that a command asks for, found fit to run on this machine in ``directory``.

    Raises:
        ConfigError: for a new run in a directory that holds one; and see
            :func:`siamese.config.validate.validate`, :func:`siamese.training.resume.resumed_config`,
            :func:`siamese.config.targets.check_targets` and :func:`siamese.training.preflight.preflight`.
        RunError: where there are no weights to start from.
    """
    composed = command.composed
    if composed.get("resume") is None:
        if holds_a_run(directory) and not follows():
            raise ConfigError(
                f"hydra.run.dir={directory}: already holds a run; go on with it "
                f"({shown('train')} {pasteable(('resume', near(directory)))}) or choose another directory"
            )
        config = validate(with_typed_targets(composed, command.words))
        if config.data.effective_batch_size is not None:
            _require_no_window(command.words)
    else:
        config = resumed_config(composed.resume, command.words, command.config_dirs)
    check_targets(config)
    from siamese.training.preflight import preflight

    preflight(config)
    if composed.get("resume") is None and (weights := config.model.get("weights")) is not None:
        from siamese.models.weights import weights_file

        weights_file(weights)
    return config


def _require_no_window(words: tuple[str, ...]) -> None:
    """Refuse a window of one that is typed where the window follows: validation takes it for the default."""
    if "trainer.accumulate_grad_batches=1" in (word.lstrip("+") for word in words):
        raise ConfigError(
            "trainer.accumulate_grad_batches=1: with data.effective_batch_size the window follows; "
            "expected one of the two to be left out"
        )


def pass_on(command: Command, config: Config) -> None:
    """Keep ``config``, checked before the run's directory was made, for the run that is about to begin."""
    _passed[:] = [(command, config)]


def checked(command: Command, directory: Path) -> Config:
    """What :func:`pass_on` was given for ``command``; without that (a job in its sweep's process), :func:`check` now.
    What was passed on is used once, since a resumed directory changes."""
    passed, _passed[:] = _passed[:], []
    return next((config for of, config in passed if of == command), None) or check(command, directory)


def typed(composed: DictConfig) -> Command:
    """The command that Hydra has composed ``composed`` of and is running."""
    hydra = HydraConfig.get()
    added = [Path(one.path) for one in hydra.runtime.config_sources if one.provider == "command-line"]
    return Command(job_config(composed), tuple(str(word) for word in hydra.overrides.task), tuple(added))


def job_config(composed: DictConfig) -> DictConfig:
    """The composed configuration without Hydra's own node, its interpolations resolved."""
    job = OmegaConf.masked_copy(composed, [str(name) for name in composed if name != "hydra"])
    resolved = OmegaConf.create(OmegaConf.to_container(job, resolve=True))
    assert isinstance(resolved, DictConfig)
    return resolved
