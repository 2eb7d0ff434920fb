"""Hydra's jobs as tasks of Ray, over Ray's own API (Hydra's plugin needs a Ray of 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from omegaconf import open_dict

from siamese.errors import ConfigError


def launch(
    init: dict[str, Any],
    remote: dict[str, Any],
    job: tuple[Any, ...],
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """Run each of ``job_overrides`` as a task; what Ray lost is a failed return, not an end.

    Args:
        init: arguments of ``ray.init``, unless Ray is initialized already.
        remote: arguments of ``ray.remote``: ``num_cpus``, ``num_gpus``, ``max_retries``, ….
        job: Hydra's context, its configuration of the sweep, and the task function.
    """
    try:
        import ray
    except ImportError:
        raise ConfigError("hydra/launcher=ray: Ray is not installed; pip install ray") from None
    if ours := not ray.is_initialized():
        ray.init(**init)
    try:
        task = ray.remote(**remote)(_run)
        state = Singleton.get_state()
        tasks = [task.remote(job, list(words), initial_job_idx + i, state) for i, words in enumerate(job_overrides)]
        return [_result(ray, one) for one in tasks]
    finally:
        if ours:
            ray.shutdown()


def _result(ray: Any, task: Any) -> JobReturn:
    try:
        returned = ray.get(task)
        assert isinstance(returned, JobReturn)
        return returned
    except ray.exceptions.RayError as error:
        return JobReturn(status=JobStatus.FAILED, _return_value=error)


def _run(job: tuple[Any, ...], words: list[str], number: int, state: dict[Any, Any]) -> JobReturn:
    context, master, task = job
    setup_globals()
    Singleton.set_state(state)
    config = context.config_loader.load_sweep_config(master, words)
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    HydraConfig.instance().set_config(config)
    return run_job(
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=context,
    )
