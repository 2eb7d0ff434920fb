"""What the best checkpoint may be best by: the measures that ``callbacks.monitor`` can name."""

from __future__ import annotations

import re

from siamese.config.schema import Config
from siamese.data import SiameseData
from siamese.data.batches import Kind
from siamese.errors import ConfigError, nearest
from siamese.evaluation.names import METRICS, PAIR_METRICS, VIEW_METRICS, direction
from siamese.training.module import SiameseModule

PREFIX = "val/"


def term_name(config: Config) -> str:
    """What the loss of ``config`` is called among the measures: ``triplet`` for TripletLoss."""
    name = config.loss["_target_"].rpartition(".")[2]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return words.lower().removesuffix("_loss")


def check_monitor(config: Config, kind: Kind) -> None:
    """Refuse ``callbacks.monitor`` where a run of ``config`` with batches of ``kind`` has no such measure.

    Raises:
        ConfigError: for an unknown name, one of another part, one that is neither better high nor low, or one that
            other batches have.
    """
    asked = config.callbacks.monitor
    if asked is None:
        return
    name, said = asked.removeprefix(PREFIX), f"callbacks.monitor={asked}"
    terms = ["loss", term_name(config), *["koleo"] * bool(config.objective.koleo_weight)]
    if asked.startswith("test/"):
        raise ConfigError(f"{said}: the test part is never chosen by; expected a measure of {PREFIX}")
    known = [f"{PREFIX}{one}" for one in (*METRICS, *PAIR_METRICS, *VIEW_METRICS, *terms)]
    if asked not in known:
        raise ConfigError(
            f"{said}: no such measure; expected {PREFIX}NAME with a name of docs/evaluation.md or a term of the loss "
            f"({', '.join(terms)}){nearest(PREFIX + name, known)}"
        )
    if direction(name) is None:
        raise ConfigError(
            f"{said}: neither more nor less of it is better, so that no epoch is the best by it; expected a measure "
            "with a direction, such as val/auc or val/map_at_r"
        )
    if name in PAIR_METRICS and not kind.verifies_pairs:
        raise ConfigError(f"{said}: only batches=pairs measures it; found batches={kind.form}")


def check_monitor_with_images(module: SiameseModule, data: SiameseData) -> None:
    """Refuse to monitor how views find their images where validation has no views.

    Raises:
        ConfigError: naming the measure.
    """
    if module.monitor in VIEW_METRICS and not data.has_views("validation"):
        raise ConfigError(
            f"callbacks.monitor={PREFIX}{module.monitor}: it is measured where images have no classes, and these have "
            f"{len(data.source.class_names):,}; expected a measure such as val/recall_at_1"
        )
