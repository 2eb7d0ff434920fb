"""The network that an index was made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from siamese.config.words import pasteable
from siamese.decoding.names import one_line
from siamese.encoder import Encoder
from siamese.encoder.load import load_run
from siamese.errors import RunError
from siamese.index.building import fingerprint
from siamese.index.index import Index
from siamese.paths import near, shown


def network_of(
    index: Index, command: str, *, run: Path | None = None, device: str | None = None, trust: Sequence[str] = ()
) -> Encoder:
    """The encoder that ``index`` was made with, from where its run was, or from ``run``.

    Args:
        command: what was called, for what an error says.

    Raises:
        ConfigError: see :func:`siamese.load_run`.
        RunError: the same; for a run that is gone, and for one whose weights are others.
    """
    manifest = index.manifest
    place = Path(manifest.run) if run is None else run
    again = f"{shown(command)} {pasteable(near(index.stored.folder))}"
    if run is None and not place.is_dir():
        raise RunError(
            f"{one_line(place)}: the run that {index.name} was made with is not there; --run RUN says where it is now"
        )
    encoder = load_run(place, checkpoint=manifest.checkpoint, device=device, trust=trust, remedy=f"{again} --trust ")
    if fingerprint(encoder, manifest.flip) != manifest.weights:
        raise RunError(
            f"{index.name}: was made with the weights that {one_line(Path(manifest.run))} had in "
            f"{manifest.checkpoint}.ckpt; those of {one_line(place)} are others, whose distances mean nothing in it"
        )
    return encoder
