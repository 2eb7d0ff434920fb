"""What scripts/evaluate.py --embeddings measures: embeddings in a file, of no run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from siamese.errors import ConfigError, RunError, nearest, several
from siamese.evaluator.report import draw, results_table
from siamese.runs.bounds import one_line
from siamese.runs.directory import RunDirectory
from siamese.runs.read import holds_a_run, require_places

log = logging.getLogger("evaluate")

NEEDED = ("embeddings", "labels")
MAY = ("ids", "class_names", "queries", "gallery", "groups")


def measure_file(path: Path, out: Path | None) -> None:
    """Measure the embeddings in ``path`` as test images, print the table, and write everything into ``out``.

    Raises:
        ConfigError: for a folder that holds something else.
        RunError: for a file that is not there or damaged, and arrays that do not fit.
    """
    from siamese.config.schema import Evaluation
    from siamese.evaluator.bare import part_of
    from siamese.evaluator.measured import evaluate_part, measured, part_entries, said_of
    from siamese.evaluator.tables import class_rows, failure_rows, write_table

    part, settings = part_of(str(path), _arrays(path)), Evaluation()
    if out is None:
        found = measured(part, settings, None)
    else:
        if out.exists() and (holds_a_run(out) or any(out.iterdir())):
            raise ConfigError(f"--out {out}: is not empty; choose another directory")
        run = RunDirectory(out)
        require_places(out)
        found = evaluate_part(run, part, settings, None)
        write_table(run, "per_class", class_rows(part, found))
        write_table(run, "failures", list(failure_rows(part, found)))
    entries = part_entries(part, found.values, found, 0)
    if out is not None:
        run.summary(entries)
        draw(out, run, "png")
    log.info("%s", results_table(entries, str(path), of_epochs=False))
    for note in said_of(part, found):
        log.info("%s", note)
    if out is not None:
        log.info("figures, arrays and summary.json are in %s", out)


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays in ``path``; nothing in it is executed."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if isinstance(stored, np.ndarray):
                raise RunError(f"{path}: expected an .npz file of arrays {', '.join(NEEDED)}, found one array")
            names = stored.files
            if missing := [name for name in NEEDED if name not in names]:
                near = nearest(missing[0], names)
                raise RunError(f"{path}: has no array {missing[0]}{near}; it has {several(names) if names else 'none'}")
            if unknown := [name for name in names if name not in (*NEEDED, *MAY)]:
                raise RunError(
                    f"{path}: unknown array {unknown[0]}{nearest(unknown[0], [*NEEDED, *MAY])}; expected "
                    f"{', '.join(NEEDED)}, and perhaps {', '.join(MAY)}"
                )
            return {name: stored[name] for name in names}
    except FileNotFoundError:
        raise RunError(f"{path}: not found") from None
    except RunError:
        raise
    except Exception as error:  # a damaged file raises whatever zipfile, zlib or NumPy meet first
        raise RunError(f"{path}: could not be read as arrays ({one_line(error)})") from None
