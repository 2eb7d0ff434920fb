"""Where the program's own files are, in a checkout and where it is installed."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent
# Beside the package in a checkout, inside it where it is installed.
CONF = next(folder for folder in (CHECKOUT / "conf", PACKAGE / "conf") if (folder / "train.yaml").is_file())


def shown(command: str) -> str:
    """What a person types for ``command`` (train, compare, …) where this program runs: a script of the checkout whose
    folder they are in, or the console command."""
    script = "train.py" if command == "train" else f"scripts/{command}.py"
    return f"python {script}" if Path.cwd() == CHECKOUT and (CHECKOUT / script).is_file() else f"siamese-{command}"


def near(path: Path) -> Path:
    """``path`` as a person in the working directory writes it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and here in path.parents else path


def with_own_modules() -> None:
    """Let modules in the working directory be imported, after all that is installed."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def train_command() -> tuple[str, ...]:
    """What runs ``train.py``, or ``siamese-train`` where there is no checkout."""
    script = CHECKOUT / "train.py"
    if not script.is_file():
        script = Path(sysconfig.get_path("scripts")) / "siamese-train"
    return sys.executable, str(script)
