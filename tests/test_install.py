"""What a user gets who installs the package: a wheel that holds all that its commands need."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "accumulation",
    "compare",
    "embed",
    "evaluate",
    "data",
    "explore",
    "export",
    "index",
    "losses",
    "lr-find",
    "study",
    "models",
    "search",
    "train",
    "tune",
)


def pip(*arguments: object) -> None:
    """Run pip without a network."""
    command = [sys.executable, "-m", "pip", *map(str, arguments), "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel, its commands in bin/, and nothing that it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    return folder


def run(installed: Path, folder: Path, command: str, *arguments: str) -> str:
    """What an installed command prints when it is called in ``folder``."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    line = [str(installed / "bin" / command), *arguments]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(*folders: str) -> set[str]:
    """The files below ``folders`` of the checkout, but for bytecode."""
    found = (file for folder in folders for file in (ROOT / folder).rglob("*"))
    return {f.relative_to(ROOT).as_posix() for f in found if f.is_file() and "__pycache__" not in f.parts}


def test_the_wheel_holds_the_package_its_plugins_and_its_configuration_alone(wheel: Path) -> None:
    package, configuration = files("siamese", "hydra_plugins"), files("conf")
    assert {"siamese/compare/templates/report.html.j2", "hydra_plugins/siamese_sweep.py"} <= package
    assert {"conf/train.yaml", "conf/loss/triplet.yaml", "conf/hydra/launcher/ray.yaml"} <= configuration
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == package | {f"siamese/{name}" for name in configuration}


def test_the_commands_are_installed(installed: Path) -> None:
    assert {file.name for file in (installed / "bin").iterdir()} == {f"siamese-{name}" for name in COMMANDS}


def test_an_installed_command_tells_how_it_is_used(installed: Path, tmp_path: Path) -> None:
    """Each in a fork of one process, as they would import the same again and again."""
    code = (
        "import importlib.metadata, os, sys\n"
        "for entry in importlib.metadata.distribution('siamese').entry_points:\n"
        "    print('command', entry.name, flush=True)\n"
        "    sys.argv = [entry.name, '--help']\n"
        "    main = entry.load()\n"
        "    if not os.fork():\n"
        "        main()\n"
        "        sys.exit()\n"
        "    if os.wait()[1]:\n"
        "        sys.exit(entry.name)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = dict(part.split("\n", 1) for part in done.stdout.split("command siamese-")[1:])
    assert told.keys() == set(COMMANDS)
    for name, text in told.items():
        assert name in text


@pytest.mark.slow
def test_an_installed_command_trains_in_another_folder(installed: Path, tmp_path: Path) -> None:
    words = ("experiment=quickstart", "trainer.max_epochs=1", "data.images_per_class=20")
    run(installed, tmp_path, "siamese-train", *words)
    (path,) = (tmp_path / "outputs").glob("*/summary.json")
    assert list((path.parent / "figures").iterdir())
