"""Evaluate a run again: measure a checkpoint, print one table, write summary.json, arrays and figures.

    python scripts/evaluate.py outputs/RUN                                best.ckpt, on validation and test images
    python scripts/evaluate.py outputs/RUN --checkpoint last --split test
    python scripts/evaluate.py outputs/RUN --data image_folder --root ~/photos
    python scripts/evaluate.py outputs/RUN --data label_file --root ~/photos --labels labels.csv
    python scripts/evaluate.py --embeddings FILE.npz                      arrays embeddings and labels, of no run
    python scripts/evaluate.py outputs/RUN --figures-only                 from its arrays, without the model
    python scripts/evaluate.py outputs/RUN --failures                     the worst classes and queries, from its tables

The best checkpoint on the run's own images is written into the run directory, anything else into a folder of its
own in RUN/evaluations/, or all into --out; evaluation.json there says what was measured. Checkpoints are never
changed. Of other data the images that it sets apart for testing are measured, or all where it sets none apart;
losses are not.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from siamese.commands.arguments import Parser
from siamese.commands.console import Console
from siamese.commands.measure_file import measure_file
from siamese.commands.messages import errors_in_one_line
from siamese.commands.remeasure import on_other, on_own
from siamese.config.data import Data
from siamese.config.schema import Config
from siamese.config.targets import check_targets, lacking
from siamese.config.trust import refuse_strangers
from siamese.config.validate import validate
from siamese.config.words import pasteable
from siamese.errors import ConfigError, RunError, several
from siamese.evaluator.failures import evaluation_folder, failures_text
from siamese.evaluator.folder import folder_of, require_free
from siamese.evaluator.report import draw, results_table
from siamese.paths import CONF, shown, with_own_modules
from siamese.runs.checkpoint import checkpoint_file
from siamese.runs.clock import now
from siamese.runs.directory import RunDirectory
from siamese.runs.read import (
    holds_a_run,
    read_config,
    read_manifest,
    read_summary,
    require_places,
    status_if_readable,
)
from siamese.runs.tables import read_evaluation

log = logging.getLogger("evaluate")

NOT_WITH_FAILURES = ("data", "root", "labels", "out", "trust", "config_dir", "table", "figures_only")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("evaluate", __doc__ or "")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", nargs="?", help="a run directory")
    add("--embeddings", type=Path, metavar="FILE", help="no run, but arrays embeddings and labels in an .npz file")
    add("--checkpoint", default="best", metavar="NAME", help="best (default), last, or another of RUN/checkpoints")
    add("--split", choices=("validation", "test"), help="only this part (default: both)")
    add("--data", metavar="OPTION", help="other images: an option of the group data, such as image_folder")
    add("--root", type=Path, metavar="PATH", help="where the images are")
    add("--labels", type=Path, metavar="FILE", help="the table that names them, of --data label_file")
    add("--out", type=Path, metavar="DIR", help="write there, and leave the run directory as it is")
    add(
        "--trust", action="append", default=[], metavar="MODULE", help="a module of yours that the run names targets of"
    )
    config_dir = "a folder of options of yours, as train.py was given; its targets are trusted"
    add("--config-dir", action="append", default=[], type=Path, metavar="DIR", help=config_dir)
    add("--table", action="store_true", help="print every measure of its summary.json again, and measure nothing")
    add("--figures-only", action="store_true", help="draw the figures again from the arrays that are there")
    add("--failures", action="store_true", help="print its worst classes and queries, and measure nothing")
    of = "--failures or --figures-only of RUN/evaluations/NAME, not of the run itself"
    add("--evaluation", metavar="NAME", help=of)
    asked = parser.parse_args(words)
    if (asked.run is None) == (asked.embeddings is None):
        raise ConfigError("expected a run directory, or --embeddings FILE, and not both")
    if asked.embeddings is not None and (given := [*_given(asked, NOT_WITH_FAILURES, but="out"), *_reads(asked)]):
        raise ConfigError(f"--embeddings: needs no run and no images, and takes no {several(given)}")
    if asked.failures and (given := _given(asked, NOT_WITH_FAILURES)):
        raise ConfigError(f"--failures: reads tables that are there, and takes no {several(given)}")
    if asked.evaluation is not None and not (asked.failures or asked.figures_only):
        raise ConfigError(
            f"--evaluation {asked.evaluation}: expected beside --failures or --figures-only, which read it"
        )
    return asked


def _given(asked: argparse.Namespace, flags: Sequence[str], but: str = "") -> list[str]:
    """Those of ``flags`` that were given, as they are typed."""
    given = [f"--{key.replace('_', '-')}" for key in flags if key != but and getattr(asked, key)]
    return given + [f"--checkpoint {asked.checkpoint}"] * (asked.checkpoint != "best")


def _reads(asked: argparse.Namespace) -> list[str]:
    """What says which results of a run to read."""
    return [f"--{key}" for key in ("split", "failures", "evaluation") if getattr(asked, key)]


def main() -> None:
    """The command line."""
    with errors_in_one_line():
        with_own_modules()
        evaluate_again(sys.argv[1:])


def evaluate_again(words: Sequence[str]) -> None:
    """Evaluate a run as ``words`` say.

    Raises:
        ConfigError: for a directory that is no run, or what cannot be measured of it.
        RunError: for a checkpoint or images that are not there or damaged.
    """
    asked = arguments(words)
    logging.basicConfig(level=logging.INFO, handlers=[Console()], format="%(message)s")
    if asked.embeddings is not None:
        measure_file(asked.embeddings, asked.out)
        return
    config = read_config(asked.run, str(asked.run))
    if asked.table:
        _show_table(asked.run)
        return
    if asked.failures:
        folder = evaluation_folder(asked.run, asked.evaluation)
        log.info("%s", failures_text(folder, asked.split, f"{shown('evaluate')} {pasteable(asked.run)}"))
        return
    run = RunDirectory(asked.run)  # nobody trains in it while we read
    if asked.out is not None and not _is_the_run(asked) and holds_a_run(asked.out):
        raise ConfigError(f"--out {asked.out}: already holds a run; choose another directory")
    if asked.figures_only:
        _redraw(asked, run, config)
        return
    state = status_if_readable(asked.run).get("state", "in an unknown state")
    if state != "completed":
        log.warning("the run is %s, not completed: this is its %s checkpoint so far", state, asked.checkpoint)
    refuse_strangers(config, asked.trust, asked.config_dir, f"{shown('evaluate')} {pasteable(asked.run)} --trust ")
    _evaluate(asked, run, config)


def _show_table(run: Path) -> None:
    """Print what summary.json holds; nothing is claimed or changed."""
    summary = read_summary(run)
    if not any(name.startswith(("val/", "test/")) for name in summary):
        raise RunError(f"{run / 'summary.json'}: holds no measure of validation or test images")
    log.info("%s", results_table(summary, "best"))


def _redraw(asked: argparse.Namespace, run: RunDirectory, config: Config) -> None:
    source = evaluation_folder(run.path, asked.evaluation)
    out = RunDirectory(asked.out or source)
    count, failed = draw(source, out, config.figures.format)
    if failed:
        raise RunError(f"{several(failed)} could not be drawn; {count} figures are in {out.path / 'figures'}")
    if not (source / "arrays").is_dir() or not count:
        raise RunError(f"{source / 'arrays'}: holds nothing to draw figures from; evaluate without --figures-only")
    log.info("%d figures are in %s", count, out.path / "figures")


def _evaluate(asked: argparse.Namespace, run: RunDirectory, config: Config) -> None:
    from siamese.data import load
    from siamese.training.build import quieten
    from siamese.training.restored import fitted

    quieten()
    config = fitted(dataclasses.replace(config, data=_data(asked, config)))
    check_targets(config)
    source = load(config.data, config.seed)
    own = source.fingerprint == read_manifest(run.path).get("data", {}).get("fingerprint")
    if not own and not (asked.data or asked.root or asked.labels):
        raise RunError(
            f"{config.data.root or config.data.source_name}: no longer has the images that the run was trained on"
        )
    if not own and asked.split == "validation":
        raise ConfigError("--split validation: only the run's own images have such a part; leave it out")
    checkpoint = checkpoint_file(run.path, asked.checkpoint)
    name = checkpoint.stem
    out = _out(asked, run, own=own, checkpoint=name, fingerprint=source.fingerprint)
    for path in (run.path, out.path):
        require_places(path)
    before = read_evaluation(out.path)
    if before is not None:
        log.info("%s: measured before, at %s; measured again in its place", out.path, before["time"])
    run_id = read_manifest(run.path)["run_id"]
    if own:
        parts = [asked.split] if asked.split else ["validation", "test"]
        found = on_own(checkpoint, parts, out, run_id, config, source)
    else:
        trained_on = set(read_manifest(run.path).get("data", {}).get("classes", []))
        found = on_other(checkpoint, out, run_id, config, source, trained_on)
    if out.path != run.path:
        before_images = (before or {}).get("split", {}) if found.kept else {}
        images = before_images | found.images
        out.evaluation(
            {
                "data": asked.data or config.data.source_name,
                "root": str(asked.root) if asked.root else config.data.root,
                "checkpoint": name,
                "epoch": found.epoch,
                "fingerprint": source.fingerprint,
                "split": images,
                "images": sum(images.values()),
                "classes": found.classes,
                "run_id": run_id,
                "time": now(),
            }
        )
    out.summary(found.kept | found.entries)  # before what may find an array of another command damaged
    if config.figures.draw:
        draw(out.path, out, config.figures.format)
    log.info("%s", results_table(found.entries, name))
    for note in found.notes:
        log.info("%s", note)
    drawn = "figures, " if config.figures.draw else ""
    log.info("%sarrays and summary.json are in %s", drawn, out.path)
    if not config.figures.draw:
        log.info("its figures are drawn by --figures-only: the run has figures.draw=false")


def _data(asked: argparse.Namespace, config: Config) -> Data:
    """The configuration of the images that are asked for, in the size that the run's are."""
    told: dict[str, Any] = {key: str(path) for key, path in (("root", asked.root), ("labels", asked.labels)) if path}
    if asked.data is None:
        return dataclasses.replace(config.data, **told)
    folders = ",".join(f"file://{folder.expanduser().absolute()}" for folder in asked.config_dir)
    words = [f"data={asked.data}", "name=evaluation", f"data.image_size={config.data.image_size}"]
    words += [f"hydra.searchpath=[{folders}]"] if folders else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", words)
    if composed.data.source == OmegaConf.create(config.data.source):
        return dataclasses.replace(config.data, **told)
    composed.data.update(told)
    data = validate(composed).data
    for key, needed in (("root", "a folder; add --root PATH"), ("labels", "a table; add --labels FILE")):
        if key in lacking(data):
            raise ConfigError(f"--data {asked.data}: needs {needed}")
    return dataclasses.replace(data, eval_batch_size=config.data.eval_batch_size)


def _is_the_run(asked: argparse.Namespace) -> bool:
    return asked.out is not None and asked.out.absolute() == asked.run.absolute()


def _out(asked: argparse.Namespace, run: RunDirectory, *, own: bool, checkpoint: str, fingerprint: str) -> RunDirectory:
    """Where the results go."""
    if own and checkpoint == "best" and (asked.out is None or _is_the_run(asked)):
        return run
    if asked.out is None:
        root = asked.root.expanduser().resolve().name if asked.root else ""
        labels = asked.labels.stem if asked.labels else ""
        words = [checkpoint] if own else [checkpoint, asked.data or "", root, labels]
        return RunDirectory(folder_of(run.path, words, fingerprint))
    if _is_the_run(asked):
        raise ConfigError(f"--out {asked.out}: holds the run's own results; choose another directory")
    require_free(asked.out, {"checkpoint": checkpoint, "fingerprint": fingerprint})
    return RunDirectory(asked.out)
