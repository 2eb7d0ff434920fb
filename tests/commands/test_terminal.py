"""The terminal is not the run."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest
from support.forkserver import ForkServer

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
@pytest.mark.parametrize("piped", [True, False], ids=["| head -1", ">&-"])
def test_a_run_outlives_its_output(tmp_path: Path, piped: bool, server: ForkServer) -> None:
    run, pipe, stderr = tmp_path / "run", tmp_path / "pipe", tmp_path / "stderr"
    os.mkfifo(pipe)

    def head() -> None:
        with pipe.open() as file:
            file.readline()

    reader = threading.Thread(target=head)
    if piped:
        reader.start()
    stdout = pipe if piped else None
    status = server.run(*RUN, f"hydra.run.dir={run}", stdout=stdout, stderr=stderr, environment={**os.environ})
    assert status == 0, stderr.read_text()
    text = completed(run)
    if piped:
        reader.join()
        assert text.count("was lost") == 1
        assert "standard output was lost (Broken pipe)" in text
    assert "Traceback" not in stderr.read_text()


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
