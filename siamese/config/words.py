"""The words of a command line: as they are typed, and as they have to be typed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence

from siamese.config.trainer import NOT_PASSED
from siamese.errors import ConfigError
from siamese.paths import CONF

# Flags of Hydra's that take the next word along.
TAKE_ONE = (
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--info", "-i", "--experimental-rerun"),
)
# What other programs call what is called otherwise here.
HABITS = {
    "ckpt_path": "resume=RUN, which goes on from its last checkpoint",
    "hparams_search": "python scripts/tune.py conf/search/study.yaml",
    "data.num_workers": "data.decode_workers=N; once decoded, images are in memory",
    "batch_size": "data.batch_size=N",
    "epochs": "trainer.max_epochs=N",
    "max_epochs": "trainer.max_epochs=N",
    "lr": "optimizer.lr=X",
    "model.lr": "optimizer.lr=X",
    "model.optimizer": "optimizer=adam|adamw|sgd|rmsprop",
    "accumulate_grad_batches": "trainer.accumulate_grad_batches=N",
    "koleo_weight": "loss.koleo_weight=X",
    "margin": "loss.margin=X",
    **{f"trainer.{name}": instead for name, instead in NOT_PASSED.items()},
}
OPTIONS = {"trainer": {"gpu": "device=cuda", "cpu": "device=cpu", "mps": "device=mps", "ddp": "device=cuda_ddp"}}


def understood(words: Sequence[str]) -> list[str]:
    """The words of a command line as Hydra understands them: flags first, ``~/`` as the home folder, and no ``+``
    before a group that has an option already.

    Raises:
        ConfigError: for a user that there is not, and for what is called otherwise here.
    """
    flags, rest, left = [], [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        flags.append(word)
        if word in TAKE_ONE and left:
            flags.append(left.pop(0))
    return [*(_at_home(flag) if "=" in flag else flag for flag in flags), *map(_override, rest)]


def _override(word: str) -> str:
    key, equals, value = word.partition("=")
    bare = key.lstrip("+~")
    if equals and value in OPTIONS.get(bare, {}):
        raise ConfigError(f"{word}: no such option; expected {OPTIONS[bare][value]}")
    if equals and bare in HABITS:
        raise ConfigError(otherwise(bare))
    if key.startswith("+") and (CONF / bare).is_dir() and bare != "hydra":  # every group has an option, if only null
        word = f"{bare}{equals}{value}"
    return _at_home(word)


def otherwise(key: str) -> str:
    """What to say of a ``key`` among :data:`HABITS`."""
    return f"{key}: no such key here; expected {HABITS[key]}"


def _at_home(word: str) -> str:
    """``KEY=~/PATH`` with the home folder in it, which a shell leaves as it is after the ``=``."""
    key, equals, value = word.partition("=")
    if not equals or "~" not in value:
        return word
    parts = value.split(",")
    if not any(part.startswith("~") for part in parts):
        return word
    homed = [home(part, word) if part.startswith("~") else part for part in parts]
    if key.startswith("-"):
        return f"{key}={','.join(homed)}"
    return f"{key}={','.join(hydra_quoted(new) if new != old else old for new, old in zip(homed, parts, strict=True))}"


def home(path: str, said: str) -> str:
    """``path`` with a leading ``~`` or ``~USER`` as that user's home folder.

    Raises:
        ConfigError: for a user that there is not.
    """
    found = os.path.expanduser(path)
    if path.startswith("~") and found == path:
        user = path.partition("/")[0][1:]
        raise ConfigError(f"{said}: there is no user {user!r}" if user else f"{said}: this user has no home folder")
    return found


def hydra_quoted(value: object) -> str:
    """``value`` as the value of an override, in quotes where Hydra's grammar wants them."""
    return str(value) if re.fullmatch(r"[\w./+-]+", str(value), re.ASCII) else quoted(value)


def quoted(value: object) -> str:
    """``value`` in Hydra's quotes, whatever characters it has (to Hydra, a backslash is one unless a quote comes
    after it)."""
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + m[2].replace("'", "\\'"), str(value)) + "'"


def pasteable(*words: object) -> str:
    """A command line that a shell takes as these words; ``(key, value)`` is an override."""
    typed = [f"{word[0]}={hydra_quoted(word[1])}" if isinstance(word, tuple) else str(word) for word in words]
    return " ".join(map(_shell_quoted, typed))


def _shell_quoted(word: str) -> str:
    """``word`` for a shell; in double quotes where single ones would take apart those that are in it."""
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word)
