"""A sweep from its command line to the table of its jobs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import rich
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from siamese.config.schema import SCHEMA_VERSION, Config
from siamese.config.schema import Sweep as Settings
from siamese.config.validate import validate
from siamese.config.words import quoted
from siamese.errors import ConfigError, Interrupted, RunError
from siamese.runs.bounds import read_json, require_kinds
from siamese.runs.files import atomic, write_json
from siamese.runs.locks import claim, holder, release
from siamese.runs.read import holds_a_run
from siamese.runs.state import State, state
from siamese.study.reader import read_plan
from siamese.sweep.job import FORK, PATIENCE, STOP, Job, cores
from siamese.sweep.plan import Plan, Planned, plan
from siamese.sweep.progress import SIGNALS, Watch, table

SWEEPS_OWN = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep", "hydra.mode")
REPLACED = ".replaced"
GPUS = ("/dev/nvidiactl", "/dev/kfd")  # of NVIDIA and of AMD, where there is one


def sweep(words: Sequence[str], params: Mapping[str, Any], master: DictConfig, context: HydraContext) -> None:
    """Run the jobs of a command line that are not finished yet.

    Raises:
        ConfigError: for jobs that cannot be run as they stand, a directory of another sweep, or one
            that a sweep is using.
        RunError: when a job did not complete.
        Interrupted: when a signal stopped it.
    """
    HydraConfig.instance().set_config(master)
    planned = plan(words, params, master, context.config_loader)
    if (resumed := planned.jobs[0].composed["resume"]) is not None:
        raise ConfigError(f"resume={resumed}: a sweep goes on with its own jobs; leave it out")
    settings = _validated(planned.jobs[0]).sweep
    if settings.name is None:
        master.sweep.name = planned.name
    directory = Path(str(master.hydra.sweep.dir)).absolute()
    with read_write(master.hydra.sweep):
        master.hydra.sweep.dir = str(directory)  # also where a launcher on another machine reads it
    planned = _where_they_are(planned, directory)
    states = {job.folder: state(directory / job.folder) for job in planned.jobs}
    todo = [job for job in planned.jobs if _is_due(states[job.folder], settings.rerun)]
    for job in todo:
        _validated(job)
    _claim(directory)
    try:
        _record(directory, planned, master)
        for job in planned.jobs:
            if states[job.folder].completed and job not in todo:
                rich.get_console().print(f"finished before: {job.title}", markup=False, highlight=False)
        stopped = None
        if todo:
            if settings.rerun == "all":
                _set_aside(directory, todo)
            stopped = _launch(planned, todo, settings, directory, master, context)
        states = {job.folder: state(directory / job.folder) for job in planned.jobs}
    finally:
        release(directory)
    console = rich.get_console()
    width = None if console.is_terminal else max(console.width, 120)
    console.print(table(planned.jobs, states), width=width, crop=False)
    console.print(str(directory), markup=False, highlight=False, soft_wrap=True)
    if stopped == "interrupted":
        print("interrupted; the same command goes on", file=sys.stderr)
        raise Interrupted(signal.SIGINT)
    missing = sum(not found.completed for found in states.values())
    if missing:
        because = f" ({stopped})" if stopped else ""
        raise RunError(
            f"{missing} of {len(states)} jobs did not complete{because}; train.log in each directory says more"
        )


def _where_they_are(planned: Plan, directory: Path) -> Plan:
    """The same jobs, in the folders that an earlier command, which may vary other keys, made for them."""
    made = {path.name.rpartition("-")[2]: path.name for path in directory.glob("[!.]*-*") if path.is_dir()}
    return replace(planned, jobs=[replace(job, folder=made.get(job.mark, job.folder)) for job in planned.jobs])


def _validated(job: Planned) -> Config:
    try:
        return validate(dict(job.composed))
    except ConfigError as error:
        raise ConfigError(f"{error} (in the job {job.title})") from None


def _is_due(found: State, rerun: str) -> bool:
    return rerun == "all" or found.name == "new" or (rerun == "failed" and not found.completed)


def _claim(directory: Path) -> None:
    if (held := holder(directory)) is not None:
        raise ConfigError(f"{directory}: in use by a sweep ({held}); wait for it, or choose another sweep.name")
    claim(directory)


def _record(directory: Path, planned: Plan, master: DictConfig) -> None:
    """Write sweep.json, which says what the jobs of the directory have in common.

    Raises:
        ConfigError: when it says otherwise already.
    """
    path = directory / "sweep.json"
    varied, jobs = set(planned.varied), {job.folder: list(job.words) for job in planned.jobs}
    if path.exists():
        earlier = read_json(path)
        require_kinds(path, earlier, {"base": dict, "varied": list, "jobs": dict})
        base = earlier.get("base", {})
        varied |= set(earlier.get("varied", []))
        jobs = earlier.get("jobs", {}) | jobs
        for key in sorted((base.keys() | planned.base.keys()) - varied):
            if base.get(key) != planned.base.get(key):
                raise ConfigError(
                    f"{directory}: belongs to a sweep with {key}={base.get(key)}, here it is {planned.base.get(key)}; "
                    "choose another sweep.name"
                )
    name = str(master.sweep.name)
    content = {"schema_version": SCHEMA_VERSION, "name": name, "base": planned.base, "varied": sorted(varied)}
    write_json(path, {**content, "jobs": jobs})
    with atomic(directory / "multirun.yaml") as file:
        file.write(OmegaConf.to_yaml(master).encode())
    (directory / STOP).unlink(missing_ok=True)


def _set_aside(directory: Path, jobs: Sequence[Planned]) -> None:
    """Move the earlier runs of ``jobs`` out of the way; nothing is overwritten."""
    for job in jobs:
        run = directory / job.folder
        if (held := holder(run)) is not None:
            raise ConfigError(f"{run}: in use by {held}; sweep.rerun=all cannot begin it anew")
        if run.exists():
            (directory / REPLACED).mkdir(exist_ok=True)
            shutil.move(run, directory / REPLACED / f"{job.folder}.{time.time_ns()}")


def _launch(
    planned: Plan,
    todo: Sequence[Planned],
    settings: Settings,
    directory: Path,
    master: DictConfig,
    context: HydraContext,
) -> str | None:
    """Have the launcher run ``todo``; why it stopped early, if it did."""
    task = Job(
        command=(sys.executable, str(Path(sys.argv[0]).absolute()), *_flags(master)),
        words={job.folder: (*_for_jobs(master), *_told(master), *job.words) for job in todo},
        cwd=os.getcwd(),
        threads=_threads(master.hydra.launcher, len(todo)),
        timeout=settings.timeout,
        fail_fast=settings.fail_fast,
        isolate=_isolation(settings.isolate, [dict(job.composed["device"]) for job in todo]),
    )
    launcher = Plugins.instance().instantiate_launcher(context, task, master)
    watch = Watch(directory, todo, len(planned.jobs))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # and so in all processes that come of it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in the background
    watch.start()
    try:
        returned = launcher.launch(
            [_overrides(job, directory, _told(master), settings.isolate is not False) for job in todo], 0
        )
        for job, result in zip(todo, returned, strict=True):
            _tell_of_loss(job.title, result)
    except KeyboardInterrupt:
        return "interrupted"
    except (ConfigError, RunError):
        raise
    except Exception as error:  # whatever a launcher makes of a worker that was killed
        reason = str(error).strip().partition("\n")[0]
        print(f"the launcher gave up: {type(error).__name__}: {reason}", file=sys.stderr)
        _wait_for([directory / job.folder for job in todo])
        return "the launcher gave up; the same command goes on"
    finally:
        watch.close()
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    with contextlib.suppress(RunError):
        return str(read_json(directory / STOP).get("reason"))
    return None


def _isolation(asked: bool | str, devices: Sequence[Mapping[str, Any]]) -> bool | str:
    """What ``auto`` is for jobs on ``devices``: forks where these are safe and a start anew costs most."""
    if asked != "auto":
        return asked
    gpu = any(Path(place).exists() for place in GPUS)
    on_cpu = all(one["accelerator"] == "cpu" or (one["accelerator"] == "auto" and not gpu) for one in devices)
    return FORK if sys.platform == "linux" and on_cpu and all(one["devices"] == 1 for one in devices) else True


def _wait_for(directories: Sequence[Path]) -> None:
    """Give jobs whose parent is gone the time to save and stop."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and any(holder(directory) for directory in directories):
        time.sleep(0.2)


def _tell_of_loss(name: str, result: JobReturn) -> None:
    """Say on stderr that a job's worker was lost, or what in it is our bug."""
    if result.status == JobStatus.FAILED:
        lost = result._return_value
        print(f"{name}: {''.join(traceback.format_exception(lost)).strip()}", file=sys.stderr)


def _told(master: DictConfig) -> list[str]:
    """What a job records of the sweep, and of the plan of a study, that it belongs to."""
    plan = master.study.plan
    return [
        f"sweep.name={master.sweep.name}",
        *([] if plan is None else [f"study.digest={read_plan(Path(plan)).digest}"]),
    ]


def _overrides(job: Planned, directory: Path, told: Sequence[str], isolate: bool) -> list[str]:
    """What the launcher composes for a job. In a process of its own, train.py writes the directory;
    in the launcher's, Hydra does."""
    words = [*job.words, f"hydra.sweep.dir={quoted(directory)}", f"hydra.sweep.subdir={job.folder}"]
    if isolate:
        return [*words, "hydra.output_subdir=null", "hydra/job_logging=none"]
    resumed = [f"resume={quoted(directory / job.folder)}"] if holds_a_run(directory / job.folder) else []
    return [*words, *told, "callbacks.progress_bar=false", *resumed]


def _flags(master: DictConfig) -> list[str]:
    """Hydra's own flags of the command that a job needs too."""
    sources = master.hydra.runtime.config_sources
    return [word for one in sources if one.provider == "command-line" for word in ("--config-dir", str(one.path))]


def _for_jobs(master: DictConfig) -> list[str]:
    """The overrides of Hydra's own node that are meant for each job."""
    return [str(word) for word in master.hydra.overrides.hydra if not str(word).lstrip("+~").startswith(SWEEPS_OWN)]


def _threads(launcher: DictConfig, jobs: int) -> int | None:
    """The threads of each of ``jobs``, such that as many as run at once have a core each; None where
    the launcher's machines, or OMP_NUM_THREADS, say how many."""
    if "OMP_NUM_THREADS" in os.environ:
        return None
    kind = str(launcher._target_).rpartition(".")[2]
    if kind == "RayLauncher":
        return max(1, int(launcher.remote.num_cpus))
    if kind == "SlurmLauncher":
        return launcher.cpus_per_task
    if kind == "LocalLauncher":  # submitit starts them all
        at_once = jobs
    elif kind == "JoblibLauncher":
        at_once = min(jobs, launcher.n_jobs if launcher.n_jobs > 0 else max(1, cores() + 1 + launcher.n_jobs))
    else:
        at_once = 1
    threads = max(1, cores() // at_once)
    if at_once > cores():
        print(f"warning: {at_once} jobs at once on {cores()} cores; each has {threads} thread", file=sys.stderr)
    return threads
