"""Where the program's own files are, in a checkout and where it is installed."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

from siamese.errors import ConfigError

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent
# Beside the package in a checkout, inside it where it is installed.
CONF = next(folder for folder in (CHECKOUT / "conf", PACKAGE / "conf") if (folder / "train.yaml").is_file())


def here() -> Path:
    """The working directory.

    Raises:
        ConfigError: when it has been deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working directory is no longer there; change to another (cd)") from None


def shown(command: str) -> str:
    """What a person types for ``command`` (train, compare, …) where this program runs: a script of the checkout whose
    folder they are in, or the console command."""
    script = "train.py" if command == "train" else f"scripts/{command}.py"
    return f"python {script}" if here() == CHECKOUT and (CHECKOUT / script).is_file() else f"siamese-{command}"


def near(path: Path) -> Path:
    """``path`` as a person in the working directory writes it."""
    folder = here()
    return path.relative_to(folder) if path.is_absolute() and folder in path.parents else path


def with_own_modules() -> None:
    """Let modules in the working directory be imported, after all that is installed."""
    if str(here()) not in sys.path:
        sys.path.append(str(here()))


def train_command() -> tuple[str, ...]:
    """What runs ``train.py``, or ``siamese-train`` where there is no checkout."""
    script = CHECKOUT / "train.py"
    if not script.is_file():
        script = Path(sysconfig.get_path("scripts")) / "siamese-train"
    return sys.executable, str(script)
