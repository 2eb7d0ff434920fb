"""Evaluate a run again: measure a checkpoint, print one table, write summary.json, arrays and figures.

    python scripts/evaluate.py outputs/RUN                                best.ckpt, on validation and test images
    python scripts/evaluate.py outputs/RUN --checkpoint last --split test
    python scripts/evaluate.py outputs/RUN --data image_folder --root ~/photos
    python scripts/evaluate.py outputs/RUN --data label_file --root ~/photos --labels labels.csv
    python scripts/evaluate.py outputs/RUN --figures-only                 from its arrays, without the model

The best checkpoint on the run's own images is written into the run directory, anything else into
RUN/evaluations/, or all into --out. Checkpoints are never changed. Of other data the images that it sets
apart for testing are measured, or all where it sets none apart; losses are not.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from siamese.commands.arguments import Parser
from siamese.commands.console import Console
from siamese.commands.messages import errors_in_one_line
from siamese.config.data import Data
from siamese.config.schema import Config
from siamese.config.targets import check_targets, lacking
from siamese.config.trust import refuse_strangers
from siamese.config.validate import validate
from siamese.config.words import pasteable
from siamese.errors import ConfigError, RunError
from siamese.evaluator.report import draw, results_table
from siamese.paths import CONF, shown, with_own_modules
from siamese.runs.checkpoint import restore
from siamese.runs.directory import RunDirectory
from siamese.runs.read import (
    holds_a_run,
    read_config,
    read_manifest,
    read_summary,
    require_places,
    status_if_readable,
)

if TYPE_CHECKING:
    from siamese.data import LabelledImages
    from siamese.evaluator.measured import Entries

log = logging.getLogger("evaluate")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("evaluate", __doc__ or "")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run directory")
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
    return parser.parse_args(words)


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
    config = read_config(asked.run, str(asked.run))
    if asked.table:
        _show_table(asked.run)
        return
    run = RunDirectory(asked.run)  # nobody trains in it while we read
    if asked.out is not None and asked.out.absolute() != asked.run.absolute() and holds_a_run(asked.out):
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
    out = RunDirectory(asked.out) if asked.out else run
    count = draw(run.path, out, config.figures.format)
    if not (run.path / "arrays").is_dir() or not count:
        raise RunError(f"{run.path / 'arrays'}: holds nothing to draw figures from; evaluate without --figures-only")
    log.info("%d figures are in %s", count, out.path / "figures")


def _evaluate(asked: argparse.Namespace, run: RunDirectory, config: Config) -> None:
    from siamese.data import load
    from siamese.training.build import quieten

    quieten()
    config = _fitted(dataclasses.replace(config, data=_data(asked, config)))
    check_targets(config)
    source = load(config.data, config.seed)
    own = source.fingerprint == read_manifest(run.path).get("data", {}).get("fingerprint")
    if not own and not (asked.data or asked.root or asked.labels):
        raise RunError(
            f"{config.data.root or config.data.source_name}: no longer has the images that the run was trained on"
        )
    if not own and asked.split == "validation":
        raise ConfigError("--split validation: only the run's own images have such a part; leave it out")
    out = _out(asked, run, own)
    for path in (run.path, out.path):
        require_places(path)
    kept = read_summary(out.path) if own and (out.path / "summary.json").exists() else {}
    if own:
        entries, notes = _on_own(asked, run, out, config, source, kept)
    else:
        entries, notes = _on_other(asked, run, out, config, source)
    out.summary(kept | entries)  # before what may find an array of another command damaged
    draw(out.path, out, config.figures.format)
    log.info("%s", results_table(entries, asked.checkpoint))
    for note in notes:
        log.info("%s", note)
    log.info("figures, arrays and summary.json are in %s", out.path)


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


def _fitted(config: Config) -> Config:
    """``config`` for this machine, and without weights to start from: a checkpoint has its own."""
    from siamese.training.preflight import check_device

    fresh = {"pretrained": False, "weights": None}
    model = config.model | {key: value for key, value in fresh.items() if key in config.model}
    device = config.device
    try:
        check_device(config)
    except ConfigError:
        precision = "32-true" if device.precision == "16-mixed" else device.precision
        device = dataclasses.replace(device, accelerator="auto", devices=1, strategy="auto", precision=precision)
        log.warning(
            "device: there is no %s here, as the run had; going on with what there is", config.device.accelerator
        )
    return dataclasses.replace(config, model=model, device=device)


def _out(asked: argparse.Namespace, run: RunDirectory, own: bool) -> RunDirectory:
    if asked.out is not None:
        return RunDirectory(asked.out)
    if own and asked.checkpoint == "best":
        return run
    words = [asked.checkpoint, asked.data, asked.root and asked.root.expanduser().resolve().name]
    words += [asked.labels and asked.labels.stem]
    return RunDirectory(run.path / "evaluations" / "_".join(word for word in words[: 1 if own else 4] if word))


def _on_own(
    asked: argparse.Namespace,
    run: RunDirectory,
    out: RunDirectory,
    config: Config,
    source: LabelledImages,
    kept: Entries,
) -> tuple[Entries, list[str]]:
    """Measure the run's own validation and test images, as the end of its training does. ``kept`` was there before."""
    from siamese.evaluator.measured import PREFIXES, evaluate
    from siamese.training.build import build, make_trainer, split_data
    from siamese.training.parts import embedded_parts

    data = split_data(config, source)
    module = build(config, data)
    epoch = restore(module, _checkpoint(asked, run), run_id=read_manifest(run.path)["run_id"])
    threshold = None
    if asked.split == "test":  # the distance that was the best on validation
        accuracy = kept.get("val/accuracy", {})
        threshold = accuracy.get("threshold") if accuracy.get("epoch") == epoch else None
    parts = [asked.split] if asked.split else list(PREFIXES)
    embedded = embedded_parts(module, data, make_trainer(config, out.path, []), parts)
    return evaluate(out, embedded, config.evaluation, epoch, threshold)


def _on_other(
    asked: argparse.Namespace, run: RunDirectory, out: RunDirectory, config: Config, source: LabelledImages
) -> tuple[Entries, list[str]]:
    """Measure the test part of other images, or all of them, by their embeddings alone."""
    from siamese.evaluator.measured import embed, evaluate_part, part_entries, said_of
    from siamese.training.build import build_net

    net = build_net(config, mean=[0.5] * 3, std=[0.5] * 3)  # both are in the checkpoint
    epoch = restore(net, _checkpoint(asked, run), prefix="net.", run_id=read_manifest(run.path)["run_id"])
    part = embed(net, source, config)
    found = evaluate_part(out, part, config.evaluation, config.evaluation.distance_threshold)
    return part_entries(part.name, found.values, epoch, found.threshold), list(said_of(part, found))


def _checkpoint(asked: argparse.Namespace, run: RunDirectory) -> Path:
    return run.checkpoints / f"{Path(asked.checkpoint).name.removesuffix('.ckpt')}.ckpt"
