"""Evaluate a run again: measure a checkpoint, print one table, write summary.json, arrays and figures.

    python scripts/evaluate.py outputs/RUN                                best.ckpt, on validation and test images
    python scripts/evaluate.py outputs/RUN --checkpoint last --split test
    python scripts/evaluate.py outputs/RUN --data image_folder --root ~/photos
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
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hydra import compose, initialize_config_dir  # noqa: E402

from siamese.artifacts import RunDirectory, holds_a_run, read_json  # noqa: E402
from siamese.command_line import CONF, Console, Parser, errors_in_one_line  # noqa: E402
from siamese.config import validate  # noqa: E402
from siamese.errors import ConfigError, RunError  # noqa: E402
from siamese.report import draw, results_table  # noqa: E402
from siamese.resume import foreign_targets, read_run  # noqa: E402
from siamese.schema import Config, Data  # noqa: E402
from siamese.targets import check_targets  # noqa: E402

if TYPE_CHECKING:
    from siamese.data import LabelledImages
    from siamese.evaluate import Entries

log = logging.getLogger("evaluate")


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    head, _, examples = (__doc__ or "").partition("\n\n")
    style = argparse.RawDescriptionHelpFormatter
    parser = Parser("evaluate.py", description=head, epilog=examples, formatter_class=style, allow_abbrev=False)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run directory")
    add("--checkpoint", default="best", metavar="NAME", help="best (default), last, or another of RUN/checkpoints")
    add("--split", choices=("validation", "test"), help="only this part (default: both)")
    add("--data", metavar="OPTION", help="other images: an option of the group data, such as image_folder")
    add("--root", type=Path, metavar="PATH", help="where the images are")
    add("--out", type=Path, metavar="DIR", help="write there, and leave the run directory as it is")
    add("--figures-only", action="store_true", help="draw the figures again from the arrays that are there")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    asked = arguments(words)
    logging.basicConfig(level=logging.INFO, handlers=[Console()], format="%(message)s")
    config = read_run(asked.run, str(asked.run))
    run = RunDirectory(asked.run)  # nobody trains in it while we read
    if asked.out is not None and asked.out.absolute() != asked.run.absolute() and holds_a_run(asked.out):
        raise ConfigError(f"--out {asked.out}: already holds a run; choose another directory")
    if asked.figures_only:
        _redraw(asked, run, config)
        return
    state = read_json(asked.run / "status.json").get("state")
    if state != "completed":
        log.warning("the run is %s, not completed: this is its %s checkpoint so far", state, asked.checkpoint)
    for group, target in foreign_targets(config):
        raise ConfigError(f"{group}._target_={target}: the run directory names it and conf/{group} does not")
    _evaluate(asked, run, config)


def _redraw(asked: argparse.Namespace, run: RunDirectory, config: Config) -> None:
    out = RunDirectory(asked.out) if asked.out else run
    count = draw(run.path, out, config.figures.format)
    if not (run.path / "arrays").is_dir() or not count:
        raise RunError(f"{run.path / 'arrays'}: holds nothing to draw figures from; evaluate without --figures-only")
    log.info("%d figures are in %s", count, out.path / "figures")


def _evaluate(asked: argparse.Namespace, run: RunDirectory, config: Config) -> None:
    from siamese.data import load
    from siamese.run import quieten

    quieten()
    config = _fitted(dataclasses.replace(config, data=_data(asked, config)))
    check_targets(config)
    source = load(config.data, config.seed)
    own = source.fingerprint == read_json(run.path / "manifest.json").get("data", {}).get("fingerprint")
    if not own and not asked.data and not asked.root:
        raise RunError(
            f"{config.data.root or config.data.source}: no longer has the images that the run was trained on"
        )
    if not own and asked.split == "validation":
        raise ConfigError("--split validation: only the run's own images have such a part; leave it out")
    out = _out(asked, run, own)
    entries, notes = (_on_own if own else _on_other)(asked, run, out, config, source)
    draw(out.path, out, config.figures.format)
    kept = read_json(out.path / "summary.json") if own and (out.path / "summary.json").exists() else {}
    out.summary(kept | entries)
    results_table(out.path, entries, asked.checkpoint, notes)


def _data(asked: argparse.Namespace, config: Config) -> Data:
    """The configuration of the images that are asked for, in the size that the run's are."""
    root = str(asked.root or config.data.root)
    if asked.data is None:
        return dataclasses.replace(config.data, root=root) if asked.root else config.data
    words = [f"data={asked.data}", "name=evaluation", f"data.image_size={config.data.image_size}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", words)
    if composed.data.source == config.data.source:
        return dataclasses.replace(config.data, root=root) if asked.root else config.data
    if asked.root:
        composed.data.root = root
    elif not composed.data.root and asked.data == "image_folder":
        raise ConfigError("--data image_folder: needs a folder; add --root PATH")
    return dataclasses.replace(validate(composed).data, eval_batch_size=config.data.eval_batch_size)


def _fitted(config: Config) -> Config:
    """``config`` for this machine, and without weights to start from: a checkpoint has its own."""
    from siamese.checks import check_device

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
    return RunDirectory(run.path / "evaluations" / "_".join(word for word in words[: 1 if own else 3] if word))


def _on_own(
    asked: argparse.Namespace, run: RunDirectory, out: RunDirectory, config: Config, source: LabelledImages
) -> tuple[Entries, list[str]]:
    """Measure the run's own validation and test images, as the end of its training does."""
    from siamese.evaluate import PREFIXES, evaluate, restore
    from siamese.run import build, make_trainer, split_data

    data = split_data(config, source)
    module = build(config, data)
    epoch = restore(module, _checkpoint(asked, run))
    threshold = None
    summary = out.path / "summary.json"
    if asked.split == "test" and summary.exists():  # the distance that was the best on validation
        accuracy = read_json(summary).get("val/accuracy", {})
        threshold = accuracy.get("threshold") if accuracy.get("epoch") == epoch else None
    parts = [asked.split] if asked.split else list(PREFIXES)
    return evaluate(config, out, module, data, make_trainer(config, out.path, []), epoch, parts, threshold)


def _on_other(
    asked: argparse.Namespace, run: RunDirectory, out: RunDirectory, config: Config, source: LabelledImages
) -> tuple[Entries, list[str]]:
    """Measure the test part of other images, or all of them, by their embeddings alone."""
    from siamese.evaluate import embed, evaluate_part, part_entries, restore, said_of
    from siamese.run import build_net

    net = build_net(config, mean=[0.5] * 3, std=[0.5] * 3)  # both are in the checkpoint
    epoch = restore(net, _checkpoint(asked, run), prefix="net.")
    part = embed(net, source, config)
    found = evaluate_part(out, part, config.evaluation, config.evaluation.distance_threshold)
    return part_entries(part.name, found.values, epoch, found.threshold), list(said_of(part, found))


def _checkpoint(asked: argparse.Namespace, run: RunDirectory) -> Path:
    return run.checkpoints / f"{Path(asked.checkpoint).name.removesuffix('.ckpt')}.ckpt"


if __name__ == "__main__":
    with errors_in_one_line():
        main()
