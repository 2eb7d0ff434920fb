"""The architecture as far as import-linter cannot see it: what importing costs, and how long a file is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 300

# Imports every module of the package argv[1] but those of argv[2:], and names the first that brings torch in.
IMPORTS = """
import importlib, pkgutil, sys

def load(name):
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"importing {name} imports torch")

load(sys.argv[1])
count = 0
for module in pkgutil.walk_packages(sys.modules[sys.argv[1]].__path__, sys.argv[1] + "."):
    if module.name not in sys.argv[2:]:
        load(module.name)
        count += 1
print(count)
"""


@pytest.mark.parametrize(
    ("package", "apart"),
    [
        ("siamese.config", []),
        ("siamese.runs", []),
        ("siamese.decoding", [f"siamese.decoding.{name}" for name in ("decode", "pool", "resize", "rows")]),
        ("siamese.figures", []),
        ("siamese.compare", []),
        ("siamese.sweep", []),
        ("siamese.commands", ["siamese.commands.loss_table", "siamese.commands.model_table"]),
    ],
)
def test_importing_a_package_imports_no_torch(package: str, apart: list[str]) -> None:
    command = [sys.executable, "-c", IMPORTS, package, *apart]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, f"{package} has no modules"


def test_a_sweep_begins_without_what_measures() -> None:
    heavy = "print([name for name in ('torch', 'scipy', 'sklearn', 'matplotlib') if name in sys.modules])"
    command = [sys.executable, "-c", f"import sys, siamese.commands.train, siamese.sweep.sweep; {heavy}"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_file_is_too_long() -> None:
    folders = ("siamese", "scripts", "hydra_plugins")
    sources = [ROOT / "train.py", *(file for folder in folders for file in (ROOT / folder).rglob("*.py"))]
    assert len(sources) > 50
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in sources}
    assert {name: n for name, n in lines.items() if n > LONGEST} == {}
