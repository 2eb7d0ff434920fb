"""Search for a good configuration.

    python scripts/tune.py conf/search/study.yaml [n_trials=100] [KEY=VALUE ...]

Words that name a key of the study file change it; the others are overrides of
every trial. The same command goes on with a study that was stopped or killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from siamese.commands.messages import errors_in_one_line
from siamese.errors import ConfigError
from siamese.paths import train_command


def main() -> None:
    """The command line."""
    with errors_in_one_line():
        search(sys.argv[1:])


def search(words: list[str]) -> None:
    """Search as ``words`` say.

    Raises:
        ConfigError: for words that name no study file, and where Optuna is not installed.
    """
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return
    if not words or "=" in words[0] or words[0].startswith("-"):
        raise ConfigError(
            "expected a study file first, as in: python scripts/tune.py conf/search/study.yaml n_trials=100"
        )
    try:
        from siamese.search.search import Search
        from siamese.search.study_file import read
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; pip install optuna") from None
    found = Search(read(Path(words[0]), words[1:]), train_command())
    found.run()
    found.report()
