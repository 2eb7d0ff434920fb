"""Search for a good configuration: python scripts/tune.py conf/search/study.yaml [n_trials=100] [KEY=VALUE ...].

Words that name a key of the study file change it; the others are overrides of every trial. The same
command goes on with a study that was stopped or killed.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from siamese.command_line import errors_in_one_line  # noqa: E402
from siamese.errors import ConfigError  # noqa: E402


def main(words: list[str]) -> None:
    if words in (["-h"], ["--help"]):
        print(__doc__)
        return
    if not words or "=" in words[0] or words[0].startswith("-"):
        raise ConfigError(
            "expected a study file first, as in: python scripts/tune.py conf/search/study.yaml n_trials=100"
        )
    try:
        from siamese.sweep.search import Search
        from siamese.sweep.study import read
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; pip install optuna") from None
    search = Search(read(Path(words[0]), words[1:]), (sys.executable, str(ROOT / "train.py")))
    search.run()
    search.report()


if __name__ == "__main__":
    with errors_in_one_line():
        main(sys.argv[1:])
