"""The logger of a run from its beginning to its end, and what it is told at the end."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from hydra.utils import get_object
from matplotlib.figure import Figure
from pytorch_lightning.loggers import Logger

from siamese.config.schema import Config
from siamese.config.validate import flatten, to_dict
from siamese.data.images import Images
from siamese.errors import RunError
from siamese.runs.arrays import read_arrays
from siamese.runs.bounds import one_line
from siamese.runs.directory import RunDirectory
from siamese.runs.tables import read_per_class
from siamese.training.loggers import RunLogger

log = logging.getLogger(__name__)


class Logs:
    """The logger that a configuration names, or none, from the beginning of a run to its end. What fails at its end
    costs one line, and nothing more is logged: the run directory has it all."""

    def __init__(self, config: Config, run: RunDirectory) -> None:
        self._config, self._run = config, run
        self.logger: Logger | None = None
        self._failed = False

    def __enter__(self) -> Logs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.logger is not None:
            with self._lenient():
                status = "failed" if error else "success"
                self.logger.close(status) if isinstance(self.logger, RunLogger) else self.logger.finalize(status)

    @contextlib.contextmanager
    def _lenient(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a library raises for a server that is gone
            if not self._failed:
                name = str(self._config.logger["_target_"])
                log.warning("logger: %s failed (%s: %s)", name, type(error).__name__, one_line(error))
            self._failed = True

    def open(self) -> Logger | None:
        """Begin to log, or go on with it; the directory has its manifest by then.

        Raises:
            RunError: when the logger cannot be opened: no such server, no account, no permission.
        """
        node = self._config.logger
        if not node.get("_target_"):
            return None
        target = get_object(node["_target_"])
        bound = {"run": self._run} if "run" in inspect.signature(target).parameters else {}
        try:
            self.logger = target(**{k: v for k, v in node.items() if k != "_target_"}, **bound)
            parameters = flatten(to_dict(self._config))  # lists as text: Lightning drops an empty one
            self.logger.log_hyperparams(
                {k: str(v) if isinstance(v, (list, dict)) else v for k, v in parameters.items()}
            )
        except Exception as error:  # whatever a library raises for a server that is not there
            reason = " ".join(str(error).split())[:200]
            raise RunError(
                f"logger: {node['_target_']} could not be opened ({type(error).__name__}: {reason})"
            ) from error
        return self.logger

    def figure(self, name: str, path: Path, figure: Figure) -> None:
        if isinstance(self.logger, RunLogger) and not self._failed:
            with self._lenient():
                self.logger.log_figure(name, path, figure)

    def conclude(self, summary: Mapping[str, Mapping[str, Any]], images: Images) -> None:
        """Log the summary, at the step of its checkpoint, the table of classes, and the test embeddings.

        Args:
            summary: of summary.json; ``val/NAME`` is logged as ``best/val/NAME``.
            images: uint8 [N, 3, H, W], of the test part.
        """
        if self.logger is not None and not self._failed:
            with self._lenient():
                self._conclude(self.logger, summary, images)

    def _conclude(self, logger: Logger, summary: Mapping[str, Mapping[str, Any]], images: Images) -> None:
        measured = {k: v for k, v in summary.items() if k.startswith(("val/", "test/")) and v["value"] is not None}
        steps = {int(row["epoch"]): int(row.get("step") or 0) for row in self._run.history()}
        step = max((steps.get(entry["epoch"], 0) for entry in measured.values()), default=0)
        scalars = {k if k.startswith("test/") else f"best/{k}": entry["value"] for k, entry in measured.items()}
        logger.log_metrics(scalars, step)
        if isinstance(logger, RunLogger):
            if rows := read_per_class(self._run.path):
                logger.log_classes(self._run.path / "per_class.csv", rows, step)
            test = read_arrays(self._run.path / "arrays" / "test.npz", "embeddings", "labels", "class_names")
            names = [str(test["class_names"][label]) if label >= 0 else "" for label in test["labels"]]
            logger.log_embeddings("test", torch.from_numpy(test["embeddings"]), names, images, step)
