"""The terminal is not the run."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import ROOT

from siamese.commands.terminal import Output

RUN = (
    "train.py data=digits data.images_per_class=20 model=conv_small model.width=4 device=cpu trainer.max_epochs=2 "
    "figures.draw=false"
).split()


def completed(run: Path) -> str:
    """The log of a run that has to be complete."""
    assert json.loads((run / "status.json").read_text())["state"] == "completed"
    assert (run / "summary.json").exists()
    text = (run / "train.log").read_text()
    assert "epoch 2/2" in text
    return text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "reason"),
    [("| head -1", "standard output was lost (Broken pipe)"), (">&-", None)],
)
def test_a_run_outlives_its_output(tmp_path: Path, redirection: str, reason: str | None) -> None:
    run = tmp_path / "run"
    line = " ".join([sys.executable, *RUN, f"hydra.run.dir={run}", redirection])
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    text = completed(run)
    if reason is not None:
        assert text.count("was lost") == 1
        assert reason in text
    assert "Traceback" not in done.stderr


class Full(io.StringIO):
    """A stream that takes ``room`` characters."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.room:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_what_is_lost_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    output = Output(Full(5), "standard output")
    for _ in range(4):
        assert output.write("abc") == 3
    output.flush()
    assert [record.getMessage() for record in caplog.records] == [
        "standard output was lost (No space left on device); the run goes on, and train.log has everything"
    ]
