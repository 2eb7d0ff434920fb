"""Where a run is logged besides its directory: Lightning's loggers, each bound to one run.

metrics.csv and summary.json are the record; a logger repeats them: one set of scalars an epoch, the
flattened configuration, and at the end the summary, the figures and the embeddings.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch import Tensor
from torch.nn.functional import interpolate

from siamese.data.images import Images
from siamese.runs.directory import RunDirectory
from siamese.runs.read import read_manifest

log = logging.getLogger(__name__)

Scalars = Mapping[str, Any]
Rows = Sequence[Mapping[str, str]]


class RunLogger(Logger):
    """What a logger of ours can do beyond Lightning's interface.

    Attributes:
        needs: the packages that it imports.
        extra: what of pyproject.toml installs them.
    """

    needs: ClassVar[tuple[str, ...]]
    extra: ClassVar[str]

    def log_figure(self, name: str, path: Path, figure: Figure) -> None:
        """Log a figure that has been written to ``path``."""
        raise NotImplementedError

    def log_embeddings(self, part: str, embeddings: Tensor, names: list[str], images: Images, step: int) -> None:
        """Log [N, D] embeddings with their class names and images, uint8 [N, 3, H, W]; by default, don't."""

    def log_classes(self, path: Path, rows: Rows, step: int) -> None:
        """Log what was measured of single classes, the ``rows`` of per_class.csv in ``path``; by default, don't."""

    def close(self, status: str) -> None:
        """End the run with ``status``, success or failed."""
        self.finalize(status)


class TensorBoard(RunLogger, TensorBoardLogger):
    """Event files in RUN/tensorboard: scalars, figures, hyper-parameters, and the embedding projector."""

    needs, extra = ("tensorboard",), "tensorboard"
    LINES = 1000  # rows of a table, which TensorBoard shows as text
    IMAGES, SPRITE = 5000, 8192  # images in the projector, and the pixels that TensorBoard shows of them
    MEASURES = ("val/auc", "test/auc")  # shown beside the hyper-parameters

    def __init__(self, run: RunDirectory) -> None:
        folder = run.path / "tensorboard"
        self._continues = folder.exists()
        TensorBoardLogger.__init__(self, folder, name="", version="", default_hp_metric=False)

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.hparams = dict(params)
        plain = self._sanitize_params({k: v for k, v in params.items() if v is not None})
        experiment, start, _ = hparams(plain, dict.fromkeys(self.MEASURES, 0.0))
        for summary in (experiment, start):
            self.experiment._get_file_writer().add_summary(summary)

    def log_metrics(self, metrics: Scalars, step: int | None = None) -> None:
        if self._continues:  # what an earlier process logged from this step on has been trained again
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog

            restart = Event(session_log=SessionLog(status=SessionLog.START))
            self.experiment._get_file_writer().add_event(restart, step)
            self._continues = False
        super().log_metrics({as_tag(name): value for name, value in metrics.items()}, step)
        self.experiment.flush()  # a killed run has what it measured

    def log_figure(self, name: str, path: Path, figure: Figure) -> None:
        self.experiment.add_image(f"figures/{name}", _pixels(figure), dataformats="HWC")

    def log_embeddings(self, part: str, embeddings: Tensor, names: list[str], images: Images, step: int) -> None:
        shown = torch.linspace(0, len(images) - 1, min(len(images), self.IMAGES)).long()
        pictures = images[shown].float() / 255
        size = min(max(pictures.shape[2:]), self.SPRITE // math.ceil(math.sqrt(len(shown))))
        pictures = interpolate(pictures, size=(size, size), mode="area")
        self.experiment.add_embedding(embeddings[shown], [names[i] for i in shown], pictures, step, part)

    def log_classes(self, path: Path, rows: Rows, step: int) -> None:
        self.experiment.add_text("per_class", as_markdown(rows, self.LINES), step)

    def close(self, status: str) -> None:
        if status == "success":
            from torch.utils.tensorboard.summary import hparams

            self.experiment._get_file_writer().add_summary(hparams({}, {})[2])
        self.finalize(status)


class MLflow(RunLogger, MLFlowLogger):
    """A run in an MLflow store: parameters, metrics, and figures as artifacts.

    Args:
        run: also found again by it, when it is resumed.
        experiment_name: the experiment that the run is filed under.
        tracking_uri: of the store; null is a SQLite file in RUN/mlflow.
    """

    needs, extra = ("mlflow", "sqlalchemy", "alembic"), "mlflow"

    def __init__(self, run: RunDirectory, experiment_name: str = "siamese", tracking_uri: str | None = None) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # what is logged here stays here
        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        manifest, folder, artifacts = read_manifest(run.path), run.path.absolute() / "mlflow", None
        if tracking_uri is None:
            folder.mkdir(exist_ok=True)
            tracking_uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
        self._identity = {"siamese.run_id": str(manifest["run_id"]), "siamese.run": str(run.path.absolute())}
        MLFlowLogger.__init__(
            self, experiment_name, manifest["name"], tracking_uri, dict(self._identity), artifact_location=artifacts
        )
        self._logged = self._continue()

    def _continue(self) -> int:
        """Go on with the run that an earlier process began; the last step that it logged, or -1."""
        client = self._mlflow_client
        experiment = client.get_experiment_by_name(self._experiment_name)
        if experiment is None:
            return -1
        mine = f"tags.`siamese.run_id` = '{self._identity['siamese.run_id']}'"
        found = client.search_runs([experiment.experiment_id], filter_string=mine)
        if not found:
            return -1
        self._run_id = found[0].info.run_id
        client.update_run(self._run_id, status="RUNNING")
        return max((m.step for m in client.get_metric_history(self._run_id, "epoch")), default=-1)

    def log_hyperparams(self, params: Any) -> None:
        """Log what is new; MLflow keeps the first value of a parameter, so another one becomes a tag."""
        known = self.experiment.get_run(self.run_id).data.params
        super().log_hyperparams({k: v for k, v in params.items() if k not in known})
        for key, value in params.items():
            if key in known and known[key] != str(value)[:250]:
                self.experiment.set_tag(self.run_id, f"resumed.{key}", str(value))

    def log_metrics(self, metrics: Scalars, step: int | None = None) -> None:
        if "epoch" in metrics and (step or 0) <= self._logged:
            return  # trained again after a kill; MLflow would keep both
        super().log_metrics({as_tag(name): value for name, value in metrics.items()}, step)

    def log_figure(self, name: str, path: Path, figure: Figure) -> None:
        self.experiment.log_artifact(self.run_id, str(path), "figures")

    def log_classes(self, path: Path, rows: Rows, step: int) -> None:
        self.experiment.log_artifact(self.run_id, str(path))


class WandB(RunLogger, WandbLogger):
    """A Weights & Biases run: configuration, history and pictures; offline in RUN/wandb, for ``wandb sync``.

    Args:
        run: its id is the W&B run's, so that a resumed run is the same one there.
        project: that the run is filed under.
        offline: whether to leave everything on this machine, which needs no account.
    """

    needs, extra = ("wandb",), "wandb"

    def __init__(self, run: RunDirectory, project: str = "siamese", offline: bool = True) -> None:
        import wandb

        manifest = read_manifest(run.path)
        WandbLogger.__init__(
            self,
            name=manifest["name"],
            save_dir=run.path,
            version=manifest["run_id"],
            project=project,
            mode="offline" if offline else "online",
            settings=wandb.Settings(silent=True, console="off"),
        )
        del self._wandb_init["anonymous"]  # Lightning's, which wandb now warns of

    def log_figure(self, name: str, path: Path, figure: Figure) -> None:
        self.log_image(f"figures/{name}", [_pixels(figure)])

    def log_classes(self, path: Path, rows: Rows, step: int) -> None:
        words = ("part", "class")
        data = [[value if column in words else float(value or "nan") for column, value in row.items()] for row in rows]
        self.log_table("per_class", list(rows[0]), data)

    def close(self, status: str) -> None:
        self.finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status == "success" else 1)
            self._experiment = None


def as_markdown(rows: Rows, most: int) -> str:
    """``rows`` as a table, the first ``most`` of them, and how many more there are."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"

    lines = [line(rows[0]), line("---" for _ in rows[0]), *(line(row.values()) for row in rows[:most])]
    if len(rows) > most:
        lines += ["", f"and {len(rows) - most:,} more in per_class.csv"]
    return "\n".join(lines)


def as_tag(metric: str) -> str:
    """``metric`` in the letters that every logger keeps, and no two of them alike: another letter (classes may have any
    name) is _xHEX_, its code point."""
    return re.sub(r"[^\w/.-]|_(?=x[0-9a-f]+_)", lambda odd: f"_x{ord(odd[0]):x}_", metric, flags=re.ASCII)


def _pixels(figure: Figure) -> np.ndarray:
    """The figure as uint8 [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    FigureCanvasBase(figure)  # and not the other one, whose pixels would stay with the figure
    return pixels
