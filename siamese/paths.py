"""Where the program's own files are, in a checkout and where it is installed."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent
# Beside the package in a checkout, inside it where it is installed.
CONF = next(folder for folder in (CHECKOUT / "conf", PACKAGE / "conf") if (folder / "train.yaml").is_file())


def train_command() -> tuple[str, ...]:
    """What runs ``train.py``, or ``siamese-train`` where there is no checkout."""
    script = CHECKOUT / "train.py"
    if not script.is_file():
        script = Path(sysconfig.get_path("scripts")) / "siamese-train"
    return sys.executable, str(script)
