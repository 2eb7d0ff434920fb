"""The tutorial from a folder to a page of search: its commands, run as they are written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from docs.pages import ROOT, commands
from support.images import coloured
from support.processes import Cli

pytest.importorskip("faiss", reason="faiss is not installed (pip install faiss-cpu)")
pytest.importorskip("uvicorn", reason="uvicorn is not installed (pip install uvicorn)")

PAGE = ROOT / "docs" / "tutorials" / "your-photos.md"


@pytest.mark.slow
def test_its_commands_lead_from_a_folder_to_a_page(cli: Cli, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, colour in (
        ("cat", (200, 120, 40)),
        ("dog", (60, 60, 60)),
        ("bird", (60, 120, 220)),
        ("fish", (40, 200, 90)),
    ):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(24):
            coloured(colour, (30, 24), random).save(tmp_path / "photos" / name / f"{i:03}.jpg")
    (tmp_path / "outputs").mkdir()
    typed = [command.words for command in commands(PAGE)]
    assert [words[1] for words in typed] == [
        "scripts/data.py",
        "train.py",
        "scripts/evaluate.py",
        "scripts/index.py",
        "scripts/search.py",
        "scripts/search.py",
    ]
    home = {"HOME": str(tmp_path)}
    printed = []
    for words in typed[:-1]:
        words = [word.replace("~/", f"{tmp_path}/") if not word.startswith("data.root") else word for word in words]
        printed.append(cli(ROOT / words[1], *words[2:], cwd=tmp_path, **home).stdout)
    assert "96" in printed[0]
    assert "recall_at_1" in printed[2]
    assert "96 added" in printed[3]
    assert printed[4].splitlines()[2].endswith("001.jpg")
    summary = json.loads((tmp_path / "outputs" / "photos" / "summary.json").read_text())
    assert summary["test/recall_at_1"]["value"] > 0.5
    words = [sys.executable, str(ROOT / typed[-1][1]), *typed[-1][2:], "--port", "0"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split("/ shows")[0]
        image = (tmp_path / "photos" / "fish" / "003.jpg").read_bytes()
        with urllib.request.urlopen(urllib.request.Request(f"{address}/search?k=3", image)) as answer:
            told = json.load(answer)
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert told["neighbours"][0]["path"] == str(tmp_path / "photos" / "fish" / "003.jpg")
