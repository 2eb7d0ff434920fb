"""From a run directory to an encoder. Nothing that the directory holds is executed."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch

from siamese.config.trust import refuse_strangers
from siamese.encoder.device import fitted_to
from siamese.encoder.encoder import Encoder
from siamese.runs.checkpoint import checkpoint_file
from siamese.runs.choose import chosen_run
from siamese.runs.read import read_config, read_manifest, read_summary, status_if_readable
from siamese.training.restored import restored_net

log = logging.getLogger(__name__)


def load_run(
    directory: str | os.PathLike[str],
    *,
    by: str | None = None,
    checkpoint: str = "best",
    device: str | torch.device | None = None,
    precision: str | None = None,
    trust: str | Sequence[str] = (),
    remedy: str = "load_run with trust=",
) -> Encoder:
    """Load the trained network of a run; see :func:`siamese.load_run`. ``remedy`` is what trusts a module, up to its
    name."""
    run = chosen_run(Path(directory).expanduser(), by)
    config = read_config(run, str(run))
    refuse_strangers(config, [trust], [], remedy, ["model"])
    config, place = fitted_to(config, None if device is None else str(device), precision)
    state = status_if_readable(run).get("state", "in an unknown state")
    if state != "completed":
        log.warning("%s: is %s, not completed: this is its %s checkpoint so far", run, state, checkpoint)
    file, manifest = checkpoint_file(run, checkpoint), read_manifest(run)
    with torch.random.fork_rng(devices=[]):  # the weights that it is made with are drawn, and then written over
        net, epoch = restored_net(config, file, manifest["run_id"])
    summary = read_summary(run) if (run / "summary.json").exists() else {}
    return Encoder(run, config, manifest, summary, file.stem, epoch, net, place, trust)
