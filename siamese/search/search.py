"""A search over configurations with Optuna: each trial a run directory, the study a database beside
them, pruned by what the run records after each epoch. Nothing here imports torch."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, cast

import optuna
import rich
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.table import Table
from rich.text import Text

from siamese.config.words import quoted
from siamese.errors import ConfigError, Interrupted, RunError, nearest
from siamese.runs.files import atomic
from siamese.runs.locks import claim
from siamese.runs.read import holds_a_run, read_metrics, read_summary
from siamese.runs.state import state
from siamese.search.study_file import Study, draw
from siamese.sweep.job import THREADS, Ending, cores, run_apart

HEARTBEAT, GRACE = 30, 120  # seconds; for whoever looks at the database from elsewhere
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class Stopped(Exception):
    """A signal has stopped the search; the trials that ran go on next time."""


class Storage(RDBStorage):
    """Optuna's database, of which a waiting trial goes to one worker only: SQLite has no locks on rows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._one_at_a_time = threading.Lock()
        super().__init__(*args, **kwargs)

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        with self._one_at_a_time:
            return super().set_trial_state_values(trial_id, state, values)


class Search:
    """A study at work: runs its trials, and goes on where an earlier process stopped, however it did.

    Args:
        command: what runs one trial: Python and train.py.
    """

    def __init__(self, study: Study, command: Sequence[str]) -> None:
        self.settings, self.command = study, command
        self.directory = Path(study.directory).absolute()
        self.stopping = threading.Event()
        self.ended_by: Exception | None = None  # of several workers' last trials, Optuna drops what they raise
        claim(self.directory)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.retry = RetryHeartbeatStaleTrialCallback(max_retry=study.retries)
        self.study = optuna.create_study(
            study_name=study.name,
            storage=Storage(
                f"sqlite:///{self.directory / 'study.db'}",
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=self.retry,
            ),
            sampler=optuna.samplers.TPESampler(seed=study.sampler_seed, constant_liar=study.workers > 1),
            pruner=optuna.pruners.MedianPruner(study.pruning.after_trials, study.pruning.after_epochs),
            direction="maximize",
            load_if_exists=True,
        )
        self._same_space()

    def _same_space(self) -> None:
        """Refuse a study of another space, metric or configuration under this name."""
        own: dict[str, Any] = {
            "space": self.settings.space,
            "metric": self.settings.metric,
            "train": self.settings.train,
        }
        for key, value in own.items():
            before = self.study.user_attrs.get(key, value)
            if json.dumps(before, sort_keys=True) != json.dumps(value, sort_keys=True):
                differs = before
                if isinstance(before, dict) and isinstance(value, dict):
                    at = next(k for k in sorted({*before, *value}) if before.get(k) != value.get(k))
                    key, differs, value = f"{key}.{at}", before.get(at), value.get(at)
                raise ConfigError(
                    f"{self.directory}: belongs to a study with {key}={differs}, here it is {value}; "
                    "choose another name"
                )
            self.study.set_user_attr(key, value)

    # -- trials --------------------------------------------------------------------------------

    def run(self) -> None:
        """Run trials until there are as many as asked for."""
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self.study.tell(trial.number, state=TrialState.FAIL)  # its process is gone: this one has the directory
        retried = {n for t in self.study.trials for n in t.system_attrs.get("retry_history", [])}
        for trial in self.study.get_trials(deepcopy=False, states=[TrialState.FAIL]):
            if "error" not in trial.user_attrs and trial.number not in retried:
                self.retry(self.study, trial)
        left = self.settings.n_trials - len(self.finished())
        if left <= 0:
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.study.optimize(self._trial, left, n_jobs=self.settings.workers, catch=(RunError,))
        except Stopped:
            pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if isinstance(self.ended_by, Stopped):
            raise Interrupted(signal.SIGINT)
        if self.ended_by is not None:
            raise self.ended_by

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping.is_set():
            raise KeyboardInterrupt
        self.stopping.set()
        print("interrupted: trials finish their step and save (once more: at once)", file=sys.stderr)

    def _trial(self, trial: Trial) -> float:
        try:
            return self._train(trial)
        except (RunError, optuna.TrialPruned):
            raise
        except Exception as error:
            self.ended_by = error
            raise

    def _train(self, trial: Trial) -> float:
        """Train what ``trial`` tries, and report each epoch; its value."""
        if self.stopping.is_set():
            raise Stopped
        words = draw(trial, self.settings.space)
        directory = self.folder(trial)
        where = f"resume={quoted(directory)}" if holds_a_run(directory) else f"hydra.run.dir={quoted(directory)}"
        reported, written = 0, 0.0

        def asked() -> Ending | None:
            nonlocal reported, written
            if self.stopping.is_set():
                return Ending("interrupted")
            path = directory / "metrics.csv"
            now = path.stat().st_mtime if path.exists() else written
            if now == written:
                return None
            written = now
            try:
                rows = read_metrics(path)
            except RunError:  # damaged: the next row makes it whole
                return None
            for row in rows:
                epoch, value = int(row["epoch"]), row.get(self.settings.metric)
                if epoch > reported and value:
                    reported = epoch
                    trial.report(float(value), epoch)
                    if trial.should_prune():
                        return Ending(
                            "interrupted", f"pruned at epoch {epoch}: {self.settings.metric} {float(value):.4f}"
                        )
            return None

        if not state(directory).completed:
            words = [*self.settings.train, *words, f"name={directory.name}", where]
            run_apart([*self.command, *words], directory, os.getcwd(), self._environment(), asked)
        found = state(directory)
        if found.completed:
            return self._said(trial, found.name, self._value(directory))
        if str(found.says).startswith("pruned"):
            self._said(trial, str(found.says))
            raise optuna.TrialPruned(found.says)
        if self.stopping.is_set():
            raise Stopped
        trial.set_user_attr("error", found.says or found.name)
        self._said(trial, f"{found.name}: {found.says}")
        raise RunError(f"{directory}: {found.says}")

    def _value(self, directory: Path) -> float:
        summary, metric = read_summary(directory), self.settings.metric
        if metric not in summary:
            raise ConfigError(f"metric={metric}: {directory} has {', '.join(summary)}{nearest(metric, summary)}")
        if (value := summary[metric]["value"]) is None:
            raise RunError(f"{directory / 'summary.json'}: {metric} is undefined; {summary[metric].get('reason')}")
        return float(value)

    def _environment(self) -> dict[str, str]:
        if "OMP_NUM_THREADS" in os.environ:
            return {}
        return dict.fromkeys(THREADS, str(max(1, cores() // self.settings.workers)))

    def _said(self, trial: Trial, how: str, value: float = math.nan) -> float:
        ended = sum(t.number != trial.number for t in self.finished()) + 1
        done = f"{ended}/{self.settings.n_trials}"
        shown = "" if math.isnan(value) else f" {value:.4f}"
        drawn = "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
        rich.get_console().print(Text(f"[{done}]  {self.folder(trial).name}  {how}{shown}  {drawn}"), soft_wrap=True)
        return value

    def finished(self) -> list[FrozenTrial]:
        """The trials that have a result: a value, a place where they were pruned, or an error of their own."""
        return [t for t in self.study.get_trials(deepcopy=False) if t.state in FINISHED or "error" in t.user_attrs]

    def folder(self, trial: Trial | FrozenTrial) -> Path:
        """The run directory of a trial: that of the trial it goes on with, if it does."""
        frozen = self.study.get_trials(deepcopy=False)[trial.number]
        number = RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
        return self.directory / f"trial-{trial.number if number is None else number:04d}"

    # -- results -------------------------------------------------------------------------------

    def report(self, best: int = 5) -> None:
        """Print the best trials and what mattered, and draw figures/*.png."""
        complete = self.study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        complete = sorted(complete, key=lambda t: cast(float, t.value), reverse=True)
        console = rich.get_console()
        table = Table(
            title=f"the best of {len(self.finished())} trials", box=None, pad_edge=False, title_justify="left"
        )
        for column in ("run", self.settings.metric, "tried"):
            table.add_column(column, overflow="fold")
        for trial in complete[:best]:
            tried = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
            table.add_row(self.folder(trial).name, f"{trial.value:.4f}", tried)
        console.print(table)
        if len(complete) > 1:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of trials too few or too alike to tell
                mattered = optuna.importance.get_param_importances(self.study)
            table = Table(title="importances", box=None, pad_edge=False, title_justify="left")
            table.add_column("key")
            table.add_column("share", justify="right")
            for key, share in mattered.items():
                table.add_row(key, f"{share:.3f}")
            console.print(table)
            self._draw(mattered)
        console.print(f"{self.directory}; optuna-dashboard sqlite:///{self.directory / 'study.db'}", soft_wrap=True)

    def _draw(self, mattered: Mapping[str, float]) -> None:
        from siamese.search import figures

        trials, metric = self.study.get_trials(deepcopy=False), self.settings.metric
        drawn = {"history": figures.history(trials, metric), "slices": figures.slices(trials, metric)}
        for name, figure in {**drawn, "importances": figures.importances(mattered)}.items():
            with atomic(self.directory / "figures" / f"{name}.png") as file:
                figure.savefig(file, format="png", dpi=150)
