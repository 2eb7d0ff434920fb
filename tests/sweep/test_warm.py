"""The process that jobs are forked from."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.processes import ROOT

from siamese.sweep.forked import Warmed

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")]

SCRIPT = """
import os, sys, threading
from threadpoolctl import threadpool_info
import torch
blas = {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
print(sys.argv[1:], os.environ["MARK"], os.getcwd(), blas, torch.get_num_threads(), torch.cuda.is_initialized())
sys.exit(5)
"""


def test_a_fork_is_as_a_process_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("warm")
    script = folder / "script.py"
    script.write_text(f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n{SCRIPT}")
    environment = os.environ | {"OMP_NUM_THREADS": "2", "MARK": "here", "PYTHONPATH": str(ROOT)}
    environment.pop("OPENBLAS_NUM_THREADS", None)
    anew = subprocess.run(
        [sys.executable, script, "word"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    warmed = Warmed(str(script), str(folder), environment)
    with (folder / "output").open("w+b") as output:
        forked = warmed.start([str(script), "word"], str(folder), output)
        assert forked.wait(60) == anew.returncode == 5
        output.seek(0)
        assert output.read().decode() == anew.stdout
        tasks = f"/proc/{warmed.pid}/task"
        names = {open(f"{tasks}/{task}/comm").read().strip() for task in os.listdir(tasks)}  # noqa: SIM115
        assert len(os.listdir(tasks)) == len(names - {"jemalloc_bg_thd"}) + ("jemalloc_bg_thd" in names)
        assert len(names - {"jemalloc_bg_thd"}) == 1
    warmed.close()
    assert not warmed.alive
