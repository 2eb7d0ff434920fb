"""What Hydra finds of our sweeps: it takes plugins from the package hydra_plugins only. This is
imported at every start of Hydra, and imports what it needs when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Jobs(Sweeper):
    """The sweeper of train.py -m; see :func:`siamese.sweep.sweep.sweep`."""

    def __init__(self, params: DictConfig) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config

    def sweep(self, arguments: list[str]) -> None:
        from siamese.sweep.sweep import sweep

        assert self.hydra_context is not None
        assert self.config is not None
        sweep(arguments, dict(self.params), self.config, self.hydra_context)


class RayLauncher(Launcher):
    """Jobs as tasks of Ray; ``init`` and ``remote`` are the arguments of its functions of that name."""

    def __init__(self, init: DictConfig, remote: DictConfig) -> None:
        self.init, self.remote = init, remote

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from siamese.sweep.on_ray import launch

        job: tuple[Any, ...] = (self.hydra_context, self.config, self.task_function)
        return launch(dict(self.init), dict(self.remote), job, job_overrides, initial_job_idx)
